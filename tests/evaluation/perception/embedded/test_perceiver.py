from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

import evaluation.tables.perception
from evaluation.perception.embedded.bank import ConceptBank
from evaluation.perception.embedded.identity import MINILM_SHA256, bank_inputs_digest, digest_with_bank
from evaluation.perception.embedded.perceiver import EmbeddedPerceiver, build_embedded_perceiver
from evaluation.perception.embedded.word_reading import WordReader, in_one_case
from evaluation.perception.ocr.rapid import verify_weights
from evaluation.perception.run_lengths import decode_mask
from tests.evaluation.perception.composites import background, paste, png, write
from tests.evaluation.perception.conftest import VOCABULARY, bank_pictures
from training.errors import FoundryError
from training.packaged_models import MINILM_FILES


def _table(**images: np.ndarray) -> pa.Table:
    return pa.table({"sample_id": list(images), "image": [png(image) for image in images.values()]})


def test_names_colors_words_and_backgrounds_from_pixels(bank: ConceptBank) -> None:
    scene, box = paste(background("plain", "blue", "blue"), "apple", 14, 22, 38)
    pair, _ = paste(background("checkered", "white", "green"), "fish", 2, 2, 28)
    pair, _ = paste(pair, "cat", 34, 32, 28)
    found = build_embedded_perceiver(bank.to_bytes())(
        _table(one=write(scene, "STOP", 6, 2, "white"), two=pair)
    )
    assert found.schema.equals(evaluation.tables.perception.REGIONS, check_metadata=True)
    one = [row for row in found.to_pylist() if row["sample_id"] == "one"]
    assert (one[0]["names"][0], one[0]["color"], one[0]["name_source"]) == ("apple", "red", "concept_bank")
    np.testing.assert_allclose(one[0]["box_xyxy_norm"], box, atol=0.05)
    assert (one[1]["text"], one[1]["names"]) == ("STOP", [])
    assert (one[0]["shape"], one[0]["texture"], one[0]["second_color"]) == ("irregular", "smooth", "")
    mask = decode_mask(one[0]["mask_rle"], *one[0]["mask_size"])
    assert mask.mean() == pytest.approx(one[0]["area_fraction"])
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    assert one[0]["box_xyxy_norm"] == [
        columns[0] / 64,
        rows[0] / 64,
        (columns[-1] + 1) / 64,
        (rows[-1] + 1) / 64,
    ]
    assert (one[0]["background_kind"], one[0]["background_color"]) == ("plain", "blue")
    two = [row for row in found.to_pylist() if row["sample_id"] == "two"]
    assert {row["names"][0] for row in two} == {"fish", "cat"}
    assert {row["model_digest"] for row in one + two} == {
        digest_with_bank(bank_inputs_digest(bank_pictures(), VOCABULARY))
    }


def test_without_known_drawings_outlines_alone_tell_things_apart(bank: ConceptBank) -> None:
    behind, _ = paste(background("plain", "white", "white"), "apple", 4, 6, 34)
    overlapping, _ = paste(behind, "cat", 20, 16, 36)
    alone, _ = paste(background("plain", "white", "white"), "apple", 10, 12, 40)
    table = _table(overlapping=overlapping, alone=alone)
    search, outlines = EmbeddedPerceiver(bank), EmbeddedPerceiver(bank, known_drawings=False)
    found = {
        perceiver.known_drawings: [
            (row["sample_id"], row["names"][0]) for row in perceiver(table).to_pylist() if row["names"]
        ]
        for perceiver in (search, outlines)
    }
    assert sorted(found[True]) == [("alone", "apple"), ("overlapping", "apple"), ("overlapping", "cat")]
    assert ("alone", "apple") in found[False]
    assert search.digest != outlines.digest == digest_with_bank(bank.inputs_digest, known_drawings=False)


def test_rows_do_not_depend_on_the_batch_and_empty_images_have_one(bank: ConceptBank) -> None:
    scene, _ = paste(background("gradient", "red", "white"), "tree", 10, 10, 40)
    photo = np.random.default_rng(0).integers(0, 256, (300, 200, 3)).astype(np.uint8)
    table = _table(scene=scene, empty=background("plain", "red", "red"), photo=photo)
    perceive = EmbeddedPerceiver(bank)
    together = perceive(table).to_pylist()
    apart = [row for index in range(3) for row in perceive(table.slice(index, 1)).to_pylist()]
    for row, other in zip(together, apart, strict=True):
        np.testing.assert_allclose(row.pop("name_scores"), other.pop("name_scores"), atol=1e-4)
    assert together == apart
    empty = [row for row in together if row["sample_id"] == "empty"]
    assert [(row["names"], row["color"], row["area_fraction"]) for row in empty] == [([], "red", 1.0)]
    assert [(row["mask_size"], row["shape"]) for row in empty] == [([64, 64], "square")]
    assert [row["background_kind"] for row in together if row["sample_id"] == "photo"] == ["unknown"]
    assert perceive(table.slice(0, 0)).num_rows == 0


def test_crops_beyond_the_limit_stay_unnamed(bank: ConceptBank) -> None:
    pair, _ = paste(background("plain", "white", "white"), "fish", 2, 2, 28)
    pair, _ = paste(pair, "apple", 32, 30, 30)
    rows = EmbeddedPerceiver(bank, max_crops=1)(_table(pair=pair)).to_pylist()
    assert [len(row["names"]) > 0 for row in rows] == [True, False]
    assert digest_with_bank(bank.inputs_digest, 1) != digest_with_bank(bank.inputs_digest, 2)


def test_threads_come_back_and_the_factory_pickles(bank: ConceptBank) -> None:
    torch.set_num_threads(2)
    EmbeddedPerceiver(bank, threads=1)(_table(plain=background("plain", "red", "red")))
    assert torch.get_num_threads() == 2
    assert pickle.loads(pickle.dumps(build_embedded_perceiver)) is build_embedded_perceiver


def test_bad_input_is_named(bank: ConceptBank) -> None:
    with pytest.raises(FoundryError, match="sample broken: image cannot be decoded"):
        EmbeddedPerceiver(bank)(pa.table({"sample_id": ["broken"], "image": [b"\x89PNG no"]}))
    with pytest.raises(FoundryError, match="lacks the columns image"):
        EmbeddedPerceiver(bank)(pa.table({"sample_id": ["x"]}))
    with pytest.raises(FoundryError, match="max_crops is -1"):
        EmbeddedPerceiver(bank, max_crops=-1)


def test_reading_finds_words_only_where_there_are_some() -> None:
    reader = WordReader()
    canvas = write(background("plain", "red", "red"), "HELLO", 1, 40, "white")
    text, score = reader.read(canvas)
    assert text == "HELLO"
    assert 0.5 < score <= 1
    assert reader.read(canvas, (0.0, 0.0, 1.0, 0.3)) == ("", 0.0)
    assert reader.read(background("plain", "red", "red")) == ("", 0.0)


def test_small_letters_that_look_like_capitals() -> None:
    read = ["zoO", "zOO", "Cox", "sale", "iOS", "STOP", "x", "CAFe", ""]
    assert [in_one_case(word) for word in read] == [
        "ZOO",
        "ZOO",
        "Cox",
        "sale",
        "iOS",
        "STOP",
        "x",
        "CAFe",
        "",
    ]


def test_other_ocr_weights_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FoundryError, match="rapidocr==3.10.0"):
        verify_weights(tmp_path)
    (tmp_path / "PP-OCRv6_det_small.onnx").write_bytes(b"other")
    with pytest.raises(FoundryError, match="sha256 is"):
        verify_weights(tmp_path)


def test_identity_needs_no_model_and_names_the_encoder_that_is_used() -> None:
    assert MINILM_FILES["model.safetensors"] == MINILM_SHA256
    code = "import sys, evaluation.perception.embedded.identity; print(sorted({'torch', 'cv2', 'scipy'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
