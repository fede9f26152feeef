"""How a model folder's prompts are encoded and how large its pictures are: as it says itself, or as its stock pipeline does.

Models of ours keep no text encoder, and no configuration says 8 x 16, so that a folder may tell both in :data:`SAMPLING`.
Published pipelines have their encoders beside the backbone; how states and pooled text come of them is what each pipeline of
diffusers does.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from training.errors import FoundryError
from training.recipes.text_encoder import EncoderSettings
from training.recipes.validation import validate

SAMPLING = "sampling.json"
CLIP_TOKENS, PIXART_TOKENS, SD3_T5_TOKENS, FLUX_T5_TOKENS = 77, 120, 256, 512
"""Lengths that the pipelines of Stable Diffusion, PixArt-alpha, SD3 and FLUX.1 pad to unless told otherwise."""


def write_sampling(folder: Path, text_encoder: EncoderSettings, latent_size: tuple[int, int] | None) -> None:
    """Say in a model folder how its prompts are encoded, and the height and width of its latents; None: the backbone's own."""
    told = {
        "text_encoder": text_encoder.model_dump(mode="json", exclude_defaults=True),
        "latent_size": latent_size,
    }
    (folder / SAMPLING).write_text(json.dumps(told, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def read_latent_size(folder: Path) -> tuple[int, int] | None:
    """Height and width of a model's latents, where its folder tells them."""
    size = _told(folder).get("latent_size")
    return None if size is None else (int(size[0]), int(size[1]))


def read_text_encoding(folder: Path) -> EncoderSettings | None:
    """How prompts of a model folder are encoded; None where it tells nothing.

    Raises FoundryError for settings that cannot be, and for a pipeline that names encoders which are not in the folder.
    """
    own = _told(folder).get("text_encoder")
    if own is not None:
        return validate(EncoderSettings, own, f"{folder / SAMPLING}: text_encoder")
    index = folder / "model_index.json"
    told: Mapping[str, Any] = json.loads(index.read_text(encoding="utf-8")) if index.is_file() else {}
    make = _OF_PIPELINE.get(str(told.get("_class_name", "")))
    if make is None or not _names_encoder(told):
        return None
    return make(folder, told)


def _told(folder: Path) -> Mapping[str, Any]:
    path = folder / SAMPLING
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else {}


def _names_encoder(index: Mapping[str, Any]) -> bool:
    entry = index.get("text_encoder")
    return isinstance(entry, list) and bool(entry) and entry[0] is not None


def _part(folder: Path, name: str, family: str, **more: Any) -> EncoderSettings:
    place = folder / name
    if not place.is_dir():
        raise FoundryError(
            f"{folder}: its model_index.json names '{name}', which is not there; fetch the whole pipeline, or give the encoder's "
            "settings"
        )
    values = {"family": family, "path": str(place), "keep_padding": True, **more}
    return validate(EncoderSettings, values, str(place))


def _clip(folder: Path, name: str, **more: Any) -> EncoderSettings:
    return _part(folder, name, "clip", max_tokens=CLIP_TOKENS, **more)


def _sd(folder: Path, index: Mapping[str, Any]) -> EncoderSettings:
    return _clip(folder, "text_encoder")


def _sdxl(folder: Path, index: Mapping[str, Any]) -> EncoderSettings:
    first = _clip(folder, "text_encoder", layer="penultimate")
    second = _clip(folder, "text_encoder_2", layer="penultimate", pooled="projected")
    return EncoderSettings(family="joined", parts=(first, second), pooled_from=(1,))


def _pixart(folder: Path, index: Mapping[str, Any]) -> EncoderSettings:
    return _part(folder, "text_encoder", "t5", max_tokens=PIXART_TOKENS, keep_padding=False)


def _sd3(folder: Path, index: Mapping[str, Any]) -> EncoderSettings:
    clips = [
        _clip(folder, name, layer="penultimate", pooled="projected")
        for name in ("text_encoder", "text_encoder_2")
    ]
    pair = EncoderSettings(family="joined", parts=tuple(clips))
    t5 = _part(folder, "text_encoder_3", "t5", max_tokens=SD3_T5_TOKENS)
    return EncoderSettings(family="joined", parts=(pair, t5), join="tokens", pooled_from=(0,))


def _flux(folder: Path, index: Mapping[str, Any]) -> EncoderSettings:
    clip = _clip(folder, "text_encoder", pooled="end")
    t5 = _part(folder, "text_encoder_2", "t5", max_tokens=FLUX_T5_TOKENS)
    return EncoderSettings(family="joined", parts=(clip, t5), states_from=(1,), pooled_from=(0,))


_OF_PIPELINE: Mapping[str, Callable[[Path, Mapping[str, Any]], EncoderSettings]] = {
    "StableDiffusionPipeline": _sd,
    "StableDiffusionXLPipeline": _sdxl,
    "PixArtAlphaPipeline": _pixart,
    "StableDiffusion3Pipeline": _sd3,
    "FluxPipeline": _flux,
}
