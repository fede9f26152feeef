"""How good whole pictures are, beside where their parts stand: each figure by its own name, none called what it is not.

KID-EffLite0 is packaged. CLIP scores and PickScore are CLIP models by local folder or hub id. ImageReward has no class in
transformers (it is BLIP with a head of its own) and FID is defined on Inception features, which nothing here ships: neither is
reported, and no stand-in carries its name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from evaluation.benchmarks.layoutsam_eval import PICTURES_AT_ONCE, require_pictures
from evaluation.benchmarks.samples import LayoutSample, read_pictures
from evaluation.intervals import Interval, mean_interval
from evaluation.metrics.kid import KID_NAME, NORMAL_95, kernel_distance
from evaluation.metrics.metric import lite0_features
from evaluation.perception.decoding import decode_image
from training.errors import FoundryError


@dataclass(frozen=True)
class WholeFigure:
    """A figure over whole pictures; ``measured_by`` names model and settings, without which it says nothing."""

    name: str
    value: Interval
    measured_by: str


@dataclass(frozen=True)
class ClipScores:
    """Of n pictures with their captions: cosine in [-1, 1], and the model's own scale of it (exp of its logit scale)."""

    cosine: Float[ndarray, " n"]
    scale: float
    num_cut: int

    def clip(self, measured_by: str) -> WholeFigure:
        """100 times the cosine, cut off at 0 (Hessel et al. 2021 without their factor), as CreatiLayout's table has it."""
        return self._figure("CLIP", 100 * np.maximum(self.cosine, 0), measured_by)

    def pick(self, measured_by: str) -> WholeFigure:
        """Scale times cosine: PickScore of arXiv 2305.01569 where the model is PickScore_v1."""
        return self._figure("PickScore", self.scale * self.cosine, measured_by)

    def _figure(self, name: str, values: Float[ndarray, " n"], measured_by: str) -> WholeFigure:
        cut = f", {self.num_cut} captions cut" if self.num_cut else ""
        return WholeFigure(name, mean_interval(values.astype(np.float64)), f"{measured_by}{cut}")


def kid(
    samples: Sequence[LayoutSample], pictures: Mapping[str, bytes], real: Mapping[str, bytes] | Path
) -> WholeFigure:
    """KID on EfficientNet-Lite0 features against real pictures: a mapping of them, or the benchmark that holds them.

    Raises FoundryError for fewer than three pictures on a side.
    """
    require_pictures(samples, pictures)
    generated = _features((sample.image_id, pictures[sample.image_id]) for sample in samples)
    distance = kernel_distance(
        generated, _features(read_pictures(real) if isinstance(real, Path) else real.items())
    )
    spread = NORMAL_95 * distance.standard_error
    interval = Interval(
        distance.value, distance.value - spread, distance.value + spread, 0.95, len(generated)
    )
    return WholeFigure(KID_NAME, interval, f"against {distance.num_real} real pictures")


def clip_scores(
    samples: Sequence[LayoutSample], pictures: Mapping[str, bytes], path: str, device: str = "auto"
) -> ClipScores:
    """Every picture with its caption by a CLIP model: a local folder or hub id with safetensors weights.

    Captions longer than the model reads are cut, and counted. Raises FoundryError for what is no CLIP, and for samples
    without a picture.
    """
    import torch
    from PIL import Image

    require_pictures(samples, pictures)
    model, processor = _load_clip(path)
    place = torch.device(
        "cuda" if device == "auto" and torch.cuda.is_available() else device.replace("auto", "cpu")
    )
    model = model.to(place).eval()
    most = int(model.config.text_config.max_position_embeddings)
    cosines, cut = [], 0
    for first in range(0, len(samples), PICTURES_AT_ONCE):
        group = samples[first : first + PICTURES_AT_ONCE]
        images = [
            Image.fromarray(decode_image(pictures[sample.image_id], f"sample {sample.image_id}"))
            for sample in group
        ]
        texts = [sample.caption for sample in group]
        cut += sum(len(ids) > most for ids in processor.tokenizer(texts)["input_ids"])
        inputs = processor(
            text=texts, images=images, return_tensors="pt", padding=True, truncation=True, max_length=most
        ).to(place)
        with torch.inference_mode():
            answer = model(**inputs)
        cosines.append((answer.image_embeds * answer.text_embeds).sum(-1).float().cpu().numpy())
    return ClipScores(np.concatenate(cosines), float(model.logit_scale.detach().exp()), cut)


def _features(pictures: Any) -> Float[ndarray, "n d"]:
    rest, parts = iter(pictures), []
    while group := list(islice(rest, PICTURES_AT_ONCE)):
        parts.append(lite0_features([decode_image(data, f"sample {image_id}") for image_id, data in group]))
    return np.concatenate(parts) if parts else np.zeros((0, 1280))


def _load_clip(path: str) -> tuple[Any, Any]:
    from safetensors import SafetensorError
    from transformers import CLIPModel, CLIPProcessor

    from evaluation.perception.hub.weights import read_config, require_safetensors, resolve_folder

    folder = resolve_folder(path)
    kind = read_config(folder / "config.json").get("model_type")
    if kind != "clip":
        raise FoundryError(
            f"{folder / 'config.json'}: model_type is '{kind}'; allowed is clip, which CLIP and PickScore_v1 are. Name such "
            "a folder."
        )
    require_safetensors(folder)
    try:
        model = CLIPModel.from_pretrained(str(folder), local_files_only=True, use_safetensors=True)
        processor = CLIPProcessor.from_pretrained(str(folder), local_files_only=True)
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise FoundryError(
            f"{folder}: cannot be loaded as CLIP ({str(error).splitlines()[0][:200]}). Give a whole checkpoint with its "
            "tokenizer and image processor."
        ) from error
    return model, processor
