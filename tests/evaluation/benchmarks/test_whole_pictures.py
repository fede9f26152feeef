"""Figures of whole pictures: CLIP's and PickScore's arithmetic by transformers' own, KID as its definition has it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers

from evaluation.benchmarks import whole_pictures
from evaluation.benchmarks.whole_pictures import clip_scores, kid
from evaluation.metrics.kid import kernel_distance
from evaluation.metrics.metric import lite0_features
from evaluation.perception.decoding import decode_image
from tests.evaluation.benchmarks.makers import png, published_row, sample, write_parquet
from tests.evaluation.perception.hub.checkpoints import byte_tokenizer, save
from training.errors import FoundryError

SAMPLES = [sample(f"s{n}", caption=text) for n, text in enumerate(("a cup", "two dogs", "x" * 60))]
PICTURES = {
    one.image_id: png(np.random.default_rng(n).integers(0, 255, (24, 30, 3), dtype=np.uint8))
    for n, one in enumerate(SAMPLES)
}


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny CLIP with random weights that reads 16 tokens."""
    tokenizer = byte_tokenizer([])
    shape = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1, "num_attention_heads": 4}
    config = transformers.CLIPConfig(
        text_config={**shape, "vocab_size": len(tokenizer), "max_position_embeddings": 16, "eos_token_id": 2,
                     "bos_token_id": 1, "pad_token_id": 0},
        vision_config={**shape, "image_size": 28, "patch_size": 14},
        projection_dim=16,
    )  # fmt: skip
    images = transformers.CLIPImageProcessor(
        size={"shortest_edge": 28}, crop_size={"height": 28, "width": 28}
    )
    processor = transformers.CLIPProcessor(images, tokenizer)
    return save(tmp_path_factory.mktemp("clip") / "clip", transformers.CLIPModel(config), processor)


def test_clip_and_pickscore_are_transformers_logits(clip: Path) -> None:
    found = clip_scores(SAMPLES, PICTURES, str(clip), device="cpu")
    model = transformers.CLIPModel.from_pretrained(clip).eval()
    processor = transformers.CLIPProcessor.from_pretrained(clip)
    for number, one in enumerate(SAMPLES):
        image = decode_image(PICTURES[one.image_id], "s")
        inputs = processor(
            text=[one.caption], images=[image], return_tensors="pt", truncation=True, max_length=16
        )
        with torch.inference_mode():
            logit = model(**inputs).logits_per_image.item()
        assert found.scale * found.cosine[number] == pytest.approx(logit, rel=1e-4, abs=1e-5)
    assert found.num_cut == 1
    pick, plain = found.pick("tiny"), found.clip("tiny")
    assert pick.value.value == pytest.approx(found.scale * found.cosine.mean(), rel=1e-5)
    assert plain.value.value == pytest.approx(100 * np.maximum(found.cosine, 0).mean(), rel=1e-5)
    assert (pick.name, plain.name, plain.measured_by) == ("PickScore", "CLIP", "tiny, 1 captions cut")


def test_what_is_no_clip_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "blip"}))
    with pytest.raises(FoundryError, match="model_type is 'blip'; allowed is clip"):
        clip_scores(SAMPLES, PICTURES, str(tmp_path))
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "clip"}))
    (tmp_path / "pytorch_model.bin").write_bytes(b"")
    with pytest.raises(FoundryError, match=r"only pytorch_model.bin, which can run code"):
        clip_scores(SAMPLES, PICTURES, str(tmp_path))
    with pytest.raises(FoundryError, match="no such folder"):
        clip_scores(SAMPLES, PICTURES, str(tmp_path / "nowhere"))


def test_kid_against_the_benchmarks_own_pictures(tmp_path: Path) -> None:
    real = {
        f"r{n}": png(np.random.default_rng(9 + n).integers(0, 99, (20, 20, 3), dtype=np.uint8))
        for n in range(4)
    }
    rows = [published_row(name, image={"bytes": data, "path": name}) for name, data in real.items()]
    path = write_parquet(tmp_path / "b.parquet", rows)
    found = kid(SAMPLES, PICTURES, path)
    ours, theirs = (
        lite0_features([decode_image(data, "s") for data in group.values()]) for group in (PICTURES, real)
    )
    expected = kernel_distance(ours, theirs)
    assert found.value.value == pytest.approx(expected.value)
    assert found.value.high - found.value.value == pytest.approx(1.96 * expected.standard_error, rel=1e-3)
    assert kid(SAMPLES, PICTURES, real).value == found.value
    assert (found.name, found.measured_by) == ("KID-EffLite0", "against 4 real pictures")
    assert not any("FID" in name for name in dir(whole_pictures)), "nothing is called what it is not"
