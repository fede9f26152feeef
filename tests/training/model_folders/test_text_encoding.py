"""Texts of a published pipeline folder are encoded as its own pipeline encodes them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from diffusers import (
    FluxPipeline,
    StableDiffusion3Pipeline,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
)

from tests.training.text_encoders import checkpoints
from training.errors import FoundryError
from training.model_folders.text_encoding import (
    SAMPLING,
    read_latent_size,
    read_text_encoding,
    write_sampling,
)
from training.recipes.text_encoder import EncoderSettings
from training.text_encoders import build_encoder

TEXTS = ['a sign that says "STOP"', "a cat"]
CLIP, T5 = "CLIPTextModel", "T5EncoderModel"
PIPELINES: dict[str, tuple[str, dict[str, str]]] = {
    "sd": ("StableDiffusionPipeline", {"text_encoder": CLIP}),
    "sdxl": (
        "StableDiffusionXLPipeline",
        {"text_encoder": CLIP, "text_encoder_2": "CLIPTextModelWithProjection"},
    ),
    "sd3": (
        "StableDiffusion3Pipeline",
        {
            "text_encoder": "CLIPTextModelWithProjection",
            "text_encoder_2": "CLIPTextModelWithProjection",
            "text_encoder_3": T5,
        },
    ),
    "flux": ("FluxPipeline", {"text_encoder": CLIP, "text_encoder_2": T5}),
}


def published(folder: Path, name: str) -> Path:
    """A folder with an index and text encoders, as published pipelines have them."""
    kind, parts = PIPELINES[name]
    for part, encoder in parts.items():
        if encoder == T5:
            checkpoints.t5(folder / part)
        else:
            width = 16 if name == "sd3" else 48 if part == "text_encoder_2" else 32  # SD3 pads to T5's 40
            checkpoints.clip(folder / part, width, projection="Projection" in encoder)
    index = {"_class_name": kind, **{part: ["transformers", encoder] for part, encoder in parts.items()}}
    (folder / "model_index.json").write_text(json.dumps(index))
    return folder


def loaded(folder: Path, part: str, kind: str) -> tuple[Any, Any]:
    """An encoder and its tokenizer, by transformers."""
    model = getattr(transformers, kind).from_pretrained(folder / part).eval()
    return model, transformers.AutoTokenizer.from_pretrained(folder / part)


def parts_of(folder: Path, name: str) -> dict[str, Any]:
    given: dict[str, Any] = {}
    for part, kind in PIPELINES[name][1].items():
        model, tokenizer = loaded(folder, part, kind)
        given |= {part: model, part.replace("text_encoder", "tokenizer"): tokenizer}
    return given


@pytest.fixture(autouse=True)
def _few_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tiny checkpoints have 20 positions."""
    for name in ("CLIP_TOKENS", "SD3_T5_TOKENS", "FLUX_T5_TOKENS"):
        monkeypatch.setattr(f"training.model_folders.text_encoding.{name}", checkpoints.TOKENS)


def stock(folder: Path, name: str) -> tuple[torch.Tensor, torch.Tensor | None]:
    """States and pooled text as the pipeline itself encodes them; nothing but encoders is loaded."""
    given = parts_of(folder, name)
    for tokenizer in (value for key, value in given.items() if "tokenizer" in key):
        tokenizer.model_max_length = checkpoints.TOKENS
    with torch.no_grad():
        if name == "sd":
            pipeline = bare(StableDiffusionPipeline, given)
            return pipeline.encode_prompt(TEXTS, "cpu", 1, False)[0], None
        if name == "sdxl":
            pipeline = bare(StableDiffusionXLPipeline, given)
            states, _, pooled, _ = pipeline.encode_prompt(
                TEXTS, device="cpu", do_classifier_free_guidance=False
            )
            return states, pooled
        if name == "sd3":
            pipeline = bare(StableDiffusion3Pipeline, given, tokenizer_max_length=checkpoints.TOKENS)
            states, _, pooled, _ = pipeline.encode_prompt(
                TEXTS,
                None,
                None,
                device="cpu",
                do_classifier_free_guidance=False,
                max_sequence_length=checkpoints.TOKENS,
            )
            return states, pooled
        pipeline = bare(FluxPipeline, given, tokenizer_max_length=checkpoints.TOKENS)
        states, pooled, _ = pipeline.encode_prompt(
            TEXTS, None, device="cpu", max_sequence_length=checkpoints.TOKENS
        )
        return states, pooled


def bare(kind: Any, given: dict[str, Any], **more: Any) -> Any:
    """A pipeline of encoders alone."""
    pipeline = kind.__new__(kind)
    pipeline._internal_dict = {}
    absent = dict.fromkeys(("transformer", "unet", "vae", "scheduler"))
    for name, value in {**absent, **given, **more, "default_sample_size": 8, "patch_size": 2}.items():
        object.__setattr__(pipeline, name, value)
    pipeline.register_to_config(force_zeros_for_empty_prompt=True)
    return pipeline


@pytest.mark.parametrize("name", ["sd", "sdxl", "sd3", "flux"])
def test_states_and_pooled_text_are_the_pipelines(tmp_path: Path, name: str) -> None:
    folder = published(tmp_path / name, name)
    settings = read_text_encoding(folder)
    assert settings is not None
    told = build_encoder(settings).prompts(TEXTS)
    states, pooled = stock(folder, name)
    torch.testing.assert_close(told.states, states.float(), atol=4e-3, rtol=4e-3)
    if pooled is not None:
        assert told.pooled is not None
        torch.testing.assert_close(told.pooled, pooled.float(), atol=4e-3, rtol=4e-3)


def test_a_folder_that_says_it_itself_comes_first_and_one_that_tells_nothing_is_none(tmp_path: Path) -> None:
    folder = published(tmp_path / "sd", "sd")
    own = EncoderSettings(family="bytes", max_tokens=32)
    assert read_latent_size(folder) is None
    write_sampling(folder, own, (8, 16))
    assert read_text_encoding(folder) == own
    assert read_latent_size(folder) == (8, 16)
    (tmp_path / "ours").mkdir()
    assert read_text_encoding(tmp_path / "ours") is None
    (tmp_path / "ours" / "model_index.json").write_text(
        json.dumps({"_class_name": "StableDiffusion3Pipeline", "text_encoder": [None, None]})
    )
    assert read_text_encoding(tmp_path / "ours") is None


def test_what_is_missing_or_wrong_is_named(tmp_path: Path) -> None:
    folder = published(tmp_path / "sdxl", "sdxl")
    for path in sorted((folder / "text_encoder_2").iterdir()):
        path.unlink()
    (folder / "text_encoder_2").rmdir()
    with pytest.raises(FoundryError, match="names 'text_encoder_2', which is not there"):
        read_text_encoding(folder)
    (folder / SAMPLING).write_text('{"text_encoder": {"family": "bytez"}}')
    with pytest.raises(FoundryError, match="sampling.json.*family"):
        read_text_encoding(folder)
