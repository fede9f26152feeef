"""Captions and descriptions by tiny checkpoints of every family, against transformers' own generation."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from tokenizers.processors import TemplateProcessing

from evaluation.perception.hub.captioning import batches, make_ask, prepare
from evaluation.perception.hub.generation import generate
from evaluation.perception.hub.images import open_image
from evaluation.perception.hub.loading import Loaded, load
from evaluation.perception.hub.models import HubPerceptionModel, build_hub_worker
from evaluation.perception.hub.settings import HubModel, read_settings
from evaluation.tables.perception import CAPTIONS, DESCRIPTIONS
from tests.evaluation.perception.hub.checkpoints import CAPTIONERS
from tests.evaluation.perception.hub.conftest import Checkpoint, png
from training.errors import FoundryError

FAMILY = {"idefics3": "smolvlm"}
SAMPLE = {"mode": "sample", "max_new_tokens": 8, "temperature": 0.9}
BEAM = {"mode": "beam", "num_beams": 3, "max_new_tokens": 8}
GREEDY = {"mode": "greedy", "max_new_tokens": 8}
QUESTIONS = ["describe", "what is this thing called?"]
BUILDERS = [*CAPTIONERS, "idefics3"]


def settings_of(name: str, folder: Path, **more: Any) -> dict[str, Any]:
    prompts = {} if name == "florence2" else {"prompts": QUESTIONS}
    return {"family": FAMILY.get(name, name), "path": str(folder), "device": "cpu"} | prompts | more


def run(settings: dict[str, Any], role: str, rows: pa.Table) -> pa.Table:
    factory, kwargs = HubPerceptionModel("tiny", settings, role).worker()
    return factory(**kwargs)(rows)


def loaded_with(name: str, folder: Path, **more: Any) -> tuple[Loaded, HubModel]:
    settings = read_settings(settings_of(name, folder, **more), "captioner")
    return load(folder, settings), settings


def assert_same(first: pa.Table, second: pa.Table) -> None:
    assert first.drop(["score"]).equals(second.drop(["score"]))
    np.testing.assert_allclose(first["score"], second["score"], atol=1e-6)


@pytest.mark.parametrize("decoding", [SAMPLE, BEAM], ids=["sample", "beam"])
@pytest.mark.parametrize("name", BUILDERS)
def test_captions_have_the_form_and_do_not_depend_on_the_batch(
    name: str, decoding: dict[str, Any], checkpoint: Checkpoint, pictures: pa.Table
) -> None:
    settings = settings_of(name, checkpoint(name), num_candidates=3, decoding=decoding)
    alone = run(settings | {"batch_size": 1}, "captioner", pictures)
    together = run(settings | {"batch_size": 6}, "captioner", pictures)
    again = run(settings | {"batch_size": 6}, "captioner", pictures)
    assert alone.schema.equals(CAPTIONS)
    assert together.equals(again)
    assert_same(alone, together)
    assert alone["sample_id"].to_pylist() == ["s1"] * 3 + ["s2"] * 3 + ["s3"] * 3
    assert alone["caption_index"].to_pylist() == [1, 2, 3] * 3
    scores = np.array(alone["score"]).reshape(3, 3)
    assert ((scores > 0) & (scores <= 1)).all()
    assert (np.diff(scores, axis=1) <= 0).all()
    assert (np.array(alone["num_tokens"]) <= 8).all()
    for sample in ("s1", "s2", "s3"):  # the first prompt gives two candidates, the second one
        prompts = alone.filter(pa.compute.equal(alone["sample_id"], sample))["prompt"].to_pylist()
        assert sorted(prompts.count(prompt) for prompt in set(prompts)) == [1, 2]


@pytest.mark.parametrize("name", BUILDERS)
def test_greedy_answers_and_scores_are_those_of_transformers(
    name: str, checkpoint: Checkpoint, pictures: pa.Table
) -> None:
    loaded, settings = loaded_with(name, checkpoint(name), decoding=GREEDY, num_candidates=1)
    image = open_image(pictures["image"][0].as_py(), "s1", 1024)
    ask = make_ask(loaded, settings.family, "s1", settings.prompts_for("captioner")[0], image, 1)
    inputs = prepare(loaded, [ask.text], [image])
    answer = generate(loaded, inputs, settings.decoding, 1, [0])[0][0]
    with torch.inference_mode():
        plain = loaded.model.generate(
            **inputs, do_sample=False, num_beams=1, max_new_tokens=8, max_length=None, early_stopping=None,
            length_penalty=None, output_scores=True, return_dict_in_generate=True,
        )  # fmt: skip
    start = 1 if loaded.is_encoder_decoder else inputs["input_ids"].shape[1]
    expected = plain.sequences[0, start:][: len(answer.token_ids)]
    assert list(answer.token_ids) == expected.tolist()
    logprobs = [
        torch.log_softmax(scores[0].float(), -1)[token].item()
        for scores, token in zip(plain.scores, expected, strict=False)
    ]
    assert answer.score == pytest.approx(np.exp(np.mean(logprobs)), rel=1e-4)
    special = set(loaded.tokenizer.all_special_ids)
    assert answer.num_tokens == sum(token not in special for token in expected.tolist())


@pytest.mark.parametrize("name", ["smolvlm", "florence2"])
def test_beams_and_their_scores_are_those_of_transformers(
    name: str, checkpoint: Checkpoint, pictures: pa.Table
) -> None:
    loaded, settings = loaded_with(name, checkpoint(name), decoding=BEAM, num_candidates=2)
    image = open_image(pictures["image"][1].as_py(), "s2", 1024)
    ask = make_ask(loaded, settings.family, "s2", settings.prompts_for("captioner")[0], image, 2)
    inputs = prepare(loaded, [ask.text], [image])
    answers = generate(loaded, inputs, settings.decoding, 2, [0, 0])[0]
    with torch.inference_mode():
        plain = loaded.model.generate(
            **inputs, do_sample=False, num_beams=3, num_return_sequences=2, max_new_tokens=8, max_length=None,
            early_stopping=False, output_scores=True, return_dict_in_generate=True,
        )  # fmt: skip
    assert [answer.score for answer in answers] == pytest.approx(
        plain.sequences_scores.exp().tolist(), rel=1e-5
    )
    start = 1 if loaded.is_encoder_decoder else inputs["input_ids"].shape[1]
    for answer, sequence in zip(answers, plain.sequences[:, start:], strict=True):
        assert list(answer.token_ids) == sequence[: len(answer.token_ids)].tolist()


@pytest.mark.parametrize("name", BUILDERS)
def test_captions_depend_on_the_image(name: str, checkpoint: Checkpoint) -> None:
    rows = pa.table({"sample_id": [f"s{i}" for i in range(6)], "image": [png(i, 40, 40) for i in range(6)]})
    settings = settings_of(name, checkpoint(name), decoding=GREEDY)
    scores = run(settings, "captioner", rows)["score"].to_pylist()
    assert len(set(scores)) == 6  # even where the words are the same, their probabilities are not


def test_seed_sample_and_candidate_change_the_draw(checkpoint: Checkpoint) -> None:
    picture = png(5, 40, 40)
    rows = pa.table({"sample_id": ["a", "b"], "image": [picture, picture]})
    settings = settings_of("llava", checkpoint("llava"), num_candidates=6, decoding=SAMPLE)
    first = run(settings, "captioner", rows)
    captions = first["caption"].to_pylist()
    assert len(set(captions)) == 12
    other = run(settings | {"seed": 1}, "captioner", rows)
    assert not set(captions) & set(other["caption"].to_pylist())
    assert set(other["seed"].to_pylist()) == {1}
    assert first["model_digest"][0] != other["model_digest"][0]


def test_a_prompt_that_begins_itself_is_not_begun_twice(checkpoint: Checkpoint, pictures: pa.Table) -> None:
    loaded, _ = loaded_with("llava", checkpoint("llava"))
    loaded.tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", loaded.tokenizer.bos_token_id)]
    )
    image = open_image(pictures["image"][0].as_py(), "s", 1024)
    plain = prepare(loaded, ["hello <image>", "hi <image>"], [image, image])
    inputs = prepare(loaded, ["<s>hello <image>", "<s>hi <image>"], [image, image])
    for one in (plain, inputs):
        assert (one["input_ids"] == loaded.tokenizer.bos_token_id).sum(dim=1).tolist() == [1, 1]
    assert inputs["attention_mask"][1, 0] == 0  # padded in front


def test_batches_hold_asks_of_like_length(checkpoint: Checkpoint) -> None:
    loaded, settings = loaded_with("qwen2_vl", checkpoint("qwen2_vl"))
    sizes = [28, 112, 28, 112, 56]
    asks = [
        make_ask(
            loaded, settings.family, str(i), "x", open_image(png(i, side, side), "s", 1024), 1 + (i == 4)
        )
        for i, side in enumerate(sizes)
    ]
    assert asks[1].length - asks[0].length == 15  # 4 x 4 patches of the picture against 1
    ids = [[ask.unit for ask in batch] for batch in batches(asks, 2)]
    assert ids == [["0", "2"], ["1", "3"], ["4"]]
    inputs = prepare(loaded, [asks[0].text], [asks[0].image])
    assert inputs["input_ids"].shape[1] == asks[0].length - 1  # the image's placeholder was counted, too


@pytest.mark.parametrize("name", ["qwen2_vl", "blip2", "florence2"])
def test_descriptions_of_boxes(name: str, checkpoint: Checkpoint) -> None:
    picture = png(3, 64, 64)
    boxes = [[0.0, 0.0, 0.5, 0.5], [0.5, 0.5, 1.0, 1.0], [0.2, 0.2, 0.201, 0.9]]
    rows = pa.table(
        {
            "entity_id": ["e1", "e2", "e3"],
            "phrase": ["a cat", "a cat", "a {phrase} dog"],
            "box_xyxy_norm": pa.array(boxes, pa.list_(pa.float32(), 4)),
            "image": [picture] * 3,
        }
    )
    settings = {"family": name, "path": str(checkpoint(name)), "device": "cpu", "decoding": GREEDY}
    alone = run(settings | {"batch_size": 1}, "describer", rows)
    together = run(settings | {"batch_size": 3}, "describer", rows)
    assert alone.schema.equals(DESCRIPTIONS)
    by_entity = together.sort_by("entity_id")
    assert_same(alone.sort_by("entity_id"), by_entity)
    assert by_entity["entity_id"].to_pylist() == ["e1", "e2", "e3"]
    assert by_entity["score"][0] != by_entity["score"][1]  # two parts of one picture
    if name != "florence2":
        assert "a cat" in by_entity["prompt"][0].as_py()
        assert "a {phrase} dog" in by_entity["prompt"][2].as_py()


def test_half_precision_is_another_model(checkpoint: Checkpoint, pictures: pa.Table) -> None:
    settings = settings_of("llava", checkpoint("llava"), decoding=GREEDY)
    full, half = (run(settings | {"dtype": dtype}, "captioner", pictures) for dtype in ("float32", "bf16"))
    assert half.schema.equals(CAPTIONS)
    assert full["model_digest"][0] != half["model_digest"][0]
    np.testing.assert_allclose(full["score"], half["score"], rtol=0.5)
    assert full["score"] != half["score"]


def test_no_rows_give_an_empty_table(checkpoint: Checkpoint, pictures: pa.Table) -> None:
    settings = settings_of("llava", checkpoint("llava"))
    assert run(settings, "captioner", pictures.slice(0, 0)).equals(CAPTIONS.empty_table())


def test_a_broken_image_fails_its_sample_by_name(checkpoint: Checkpoint, pictures: pa.Table) -> None:
    rows = pa.table({"sample_id": ["fine", "torn"], "image": [png(1, 40, 40), png(1, 40, 40)[:90]]})
    with pytest.raises(FoundryError, match="sample torn: its image"):
        run(settings_of("llava", checkpoint("llava")), "captioner", rows)


class TestRefusals:
    """What is no whole, safe checkpoint of the family does not load."""

    @pytest.fixture
    def copy(self, checkpoint: Checkpoint, tmp_path: Path) -> Path:
        return Path(shutil.copytree(checkpoint("llava"), tmp_path / "copy"))

    def refused(self, folder: Path, pictures: pa.Table, match: str) -> None:
        with pytest.raises(FoundryError, match=match):
            run(settings_of("llava", folder), "captioner", pictures)

    def test_no_such_path(self, tmp_path: Path, pictures: pa.Table) -> None:
        self.refused(tmp_path / "absent", pictures, "absent': no such folder")

    def test_pickles(self, copy: Path, pictures: pa.Table) -> None:
        (copy / "model.safetensors").unlink()
        torch.save({}, copy / "pytorch_model.bin")
        self.refused(copy, pictures, "must be .*safetensors files; found only pytorch_model.bin")

    def test_another_family(self, checkpoint: Checkpoint, pictures: pa.Table) -> None:
        self.refused(checkpoint("qwen2_vl"), pictures, "Set family to 'qwen2_vl'")

    def test_lacking_weights(self, copy: Path, pictures: pa.Table) -> None:
        from safetensors.torch import load_file, save_file

        weights = load_file(copy / "model.safetensors")
        weights.pop(next(name for name in weights if "multi_modal_projector" in name))
        save_file(weights, copy / "model.safetensors", metadata={"format": "pt"})
        self.refused(copy, pictures, "lack 1 of LlavaForConditionalGeneration's tensors")

    def test_torn_weights(self, copy: Path, pictures: pa.Table) -> None:
        data = (copy / "model.safetensors").read_bytes()
        (copy / "model.safetensors").write_bytes(data[: len(data) // 2])
        self.refused(copy, pictures, "cannot be loaded")

    def test_no_tokenizer(self, copy: Path, pictures: pa.Table) -> None:
        for path in copy.glob("*token*"):
            path.unlink()
        self.refused(copy, pictures, "processor cannot be loaded")

    def test_no_image_processor(self, copy: Path, pictures: pa.Table) -> None:
        (copy / "processor_config.json").unlink()
        self.refused(copy, pictures, "no image processor came with it|processor cannot be loaded")

    def test_no_chat_template(self, copy: Path, pictures: pa.Table) -> None:
        (copy / "chat_template.jinja").unlink()
        self.refused(copy, pictures, "needs the checkpoint's chat template")

    def test_other_weights_than_planned(self, copy: Path, tmp_path: Path) -> None:
        cache = tmp_path / "digests.json"
        _, kwargs = HubPerceptionModel("tiny", settings_of("llava", copy), "captioner", cache).worker()
        (copy / "generation_config.json").write_text("{}")
        with pytest.raises(FoundryError, match="another one than where the work was planned"):
            build_hub_worker(**kwargs)

    def test_a_missing_library_is_named(
        self, checkpoint: Checkpoint, pictures: pa.Table, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from transformers.models.smolvlm import processing_smolvlm

        folder = checkpoint("smolvlm")
        monkeypatch.setattr(processing_smolvlm, "num2words", None)
        with pytest.raises(FoundryError, match=r"processor cannot be loaded.*num2words"):
            run(settings_of("smolvlm", folder), "captioner", pictures)

    @pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
    def test_no_gpu(self, copy: Path, pictures: pa.Table) -> None:
        with pytest.raises(FoundryError, match="torch sees no CUDA device"):
            run(settings_of("llava", copy, device="cuda"), "captioner", pictures)
