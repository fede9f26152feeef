"""NanoDet-g as a detector of entities: boxes of the 80 COCO classes, grounded on phrases by the class's name.

The network is fetched by `make demo-data` (:mod:`evaluation.perception.downloads`). Images are resized to 416 x 416
pixels whatever their sides, BGR, normalised by the means and deviations it was trained with; each grid cell answers
with class scores and, for each side of its box, a distribution over 11 distances. It is a detector of photographs:
drawings are found much less surely, which the quality figures show.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from jaxtyping import Float, Int, UInt8

from evaluation.perception.decoding import decode_image
from evaluation.perception.downloads import NANODET, payload_files
from evaluation.perception.networks.coco_names import COCO_NAMES
from evaluation.tables.perception import BOXES
from training.digests import canonical_json, sha256_bytes
from training.errors import FoundryError

if TYPE_CHECKING:
    from evaluation.perception.networks.tfjs import GraphModel

NANODET_NAME = "NanoDet-g 416 (COCO-80)"
NANODET_VERSION = 1  # raise when boxes change
NANODET_READS = ("image",)
SIDE_PX = 416
MIN_SCORE = (
    0.25  # on composed scenes of drawings: .15 finds .84 at precision .30, .25 .60 at .51, .35 .30 at .66
)
MAX_OVERLAP_IOU = 0.5
_STRIDES_PX = (8, 16, 32)
_NUM_BINS = 11
_MEAN_BGR = np.array([103.53, 116.28, 123.675], dtype=np.float32)
_DEVIATION_BGR = np.array([57.375, 57.12, 58.395], dtype=np.float32)
# A noun phrase's head is the last word before these.
_AFTER_HEAD = re.compile(
    r"\b(?:in|on|at|of|with|by|from|under|near|behind|beside|above|below|to|next|that|which)\b.*"
)


@dataclass(frozen=True)
class Detection:
    """A box (normalised xyxy) with its class and the class's score in [0, 1]."""

    box_xyxy_norm: tuple[float, float, float, float]
    name: str
    score: float


def nanodet_digest(min_score: float = MIN_SCORE, max_overlap_iou: float = MAX_OVERLAP_IOU) -> str:
    """sha256 over the network's files and every setting; nothing is loaded or fetched for it."""
    settings = {
        "files": NANODET.files,
        "min_score": min_score,
        "max_overlap_iou": max_overlap_iou,
        "version": NANODET_VERSION,
    }
    return sha256_bytes(canonical_json(settings).encode())


def build_nanodet_worker(
    min_score: float = MIN_SCORE,
    max_overlap_iou: float = MAX_OVERLAP_IOU,
    threads: int = 1,
    cache: str | None = None,
) -> NanoDetWorker:
    """The detector, inside a worker: module-level and with plain arguments, so that it travels by name.

    ``cache`` is the folder of fetched files, :func:`evaluation.perception.downloads.cache_folder` when left out.
    """
    return NanoDetWorker(min_score, max_overlap_iou, threads, Path(cache) if cache else None)


class NanoDetWorker:
    """A batch worker from rows (sample_id, phrases, image) to rows of :data:`evaluation.tables.perception.BOXES`.

    A box is called by a phrase where the phrase's head noun is the class or part of its name ("a red ball" for
    "sports ball"); a phrase takes one box, the best. Other boxes are called by their class, phrase_index -1.
    ``score`` and ``name_score`` are both the class's score: this network has no other.

    Raises FoundryError for settings out of range; where the files were not fetched, at the first batch.
    """

    def __init__(self, min_score: float, max_overlap_iou: float, threads: int, cache: Path | None) -> None:
        for name, value in (("min_score", min_score), ("max_overlap_iou", max_overlap_iou)):
            if not 0.0 <= value <= 1.0:
                raise FoundryError(f"NanoDet: {name} is {value}; allowed is 0 to 1")
        if threads < 1:
            raise FoundryError(f"NanoDet: threads is {threads}; allowed is 1 or more")
        self.min_score = min_score
        self.max_overlap_iou = max_overlap_iou
        self.threads = threads
        self.digest = nanodet_digest(min_score, max_overlap_iou)
        self._cache = cache

    @cached_property
    def _network(self) -> GraphModel:
        from evaluation.perception.networks.tfjs import (
            GraphModel,
        )  # loads torch, which telling the digest does not need

        files = payload_files(NANODET, self._cache)
        return GraphModel.load(files["nanodet.json"], files["nanodet.bin"])

    def __call__(self, batch: pa.Table) -> pa.Table:
        """Boxes of every row's image, best first. Raises FoundryError for an image that cannot be decoded."""
        rows: list[dict[str, Any]] = []
        columns = (batch[name].to_pylist() for name in ("sample_id", "phrases", "image"))
        for sample_id, phrases, image in zip(*columns, strict=True):
            found = self.detect(decode_image(image, f"sample {sample_id}"))
            for index, (phrase_index, phrase, detection) in enumerate(ground(found, phrases)):
                rows.append(
                    {
                        "sample_id": sample_id,
                        "box_index": index,
                        "phrase_index": phrase_index,
                        "phrase": phrase,
                        "box_xyxy_norm": list(detection.box_xyxy_norm),
                        "score": detection.score,
                        "name_score": detection.score,
                        "model": NANODET_NAME,
                        "model_digest": self.digest,
                        "function_version": NANODET_VERSION,
                    }
                )
        return pa.Table.from_pylist(rows, schema=BOXES)

    def detect(self, image_hwc: UInt8[np.ndarray, "h w 3"]) -> list[Detection]:
        """What the network sees in an RGB image, best first."""
        import torch

        from training.hardware import torch_threads

        with torch_threads(self.threads):
            answers = self._network(torch.from_numpy(prepare(image_hwc)))
        outputs = [answer[0].numpy() for answer in answers.values()]
        scores = sorted((one for one in outputs if one.shape[1] == len(COCO_NAMES)), key=len, reverse=True)
        sides = sorted((one for one in outputs if one.shape[1] == 4 * _NUM_BINS), key=len, reverse=True)
        decoded = [decode(*level) for level in zip(scores, sides, _STRIDES_PX, strict=True)]
        boxes, best, names = (np.concatenate(parts) for parts in zip(*decoded, strict=True))
        kept = suppress(boxes, best, self.min_score, self.max_overlap_iou)
        return [
            Detection(tuple(boxes[index].tolist()), COCO_NAMES[names[index]], float(best[index]))
            for index in kept
        ]


def prepare(image_hwc: UInt8[np.ndarray, "h w 3"]) -> Float[np.ndarray, "1 3 416 416"]:
    """An RGB image as the network takes it."""
    from PIL import Image

    resized = Image.fromarray(image_hwc).resize((SIDE_PX, SIDE_PX), Image.Resampling.BILINEAR)
    bgr = np.asarray(resized)[..., ::-1].astype(np.float32)
    return np.ascontiguousarray(((bgr - _MEAN_BGR) / _DEVIATION_BGR).transpose(2, 0, 1)[None])


def decode(
    scores_nc: Float[np.ndarray, "n classes"], sides_nb: Float[np.ndarray, "n sides_x_bins"], stride_px: int
) -> tuple[Float[np.ndarray, "n 4"], Float[np.ndarray, " n"], Int[np.ndarray, " n"]]:
    """Boxes (normalised xyxy), best class's score and its number, of every cell of one grid.

    The distance of a side (left, top, right, bottom) from the cell's centre is the expectation of its distribution
    over 0 .. 10 strides.
    """
    cells = SIDE_PX // stride_px
    logits = sides_nb.reshape(-1, 4, _NUM_BINS).astype(np.float64)
    weights = np.exp(logits - logits.max(axis=-1, keepdims=True))
    distance = (weights / weights.sum(axis=-1, keepdims=True)) @ np.arange(_NUM_BINS) * stride_px
    y, x = (np.indices((cells, cells)).reshape(2, -1) + 0.5) * stride_px
    centers = np.stack([x, y], axis=1)
    corners = np.concatenate([centers - distance[:, :2], centers + distance[:, 2:]], axis=1)
    boxes = np.clip(corners / SIDE_PX, 0.0, 1.0)
    return boxes, scores_nc.max(axis=1).astype(np.float64), scores_nc.argmax(axis=1)


def suppress(
    boxes_n4: Float[np.ndarray, "n 4"],
    scores_n: Float[np.ndarray, " n"],
    min_score: float,
    max_overlap: float,
) -> list[int]:
    """Places of the boxes that stay, best first: of two that overlap more than ``max_overlap`` (IoU) the better.

    Classes do not count: two classes on one object are one box.
    """
    from evaluation.boxes import iou_matrix

    order = [int(index) for index in np.argsort(-scores_n, kind="stable") if scores_n[index] >= min_score]
    kept: list[int] = []
    while order:
        best = order.pop(0)
        kept.append(best)
        if order:
            overlaps = iou_matrix(boxes_n4[[best]], boxes_n4[order])[0]
            order = [index for index, overlap in zip(order, overlaps, strict=True) if overlap <= max_overlap]
    return kept


def ground(found: Sequence[Detection], phrases: Sequence[str]) -> list[tuple[int, str, Detection]]:
    """(phrase_index, phrase, detection) of every detection, in their order; -1 and the class where no phrase fits."""
    free = dict(enumerate(phrases))
    answer = []
    for detection in found:
        index = next((index for index, phrase in free.items() if means(phrase, detection.name)), -1)
        answer.append((index, free.pop(index) if index >= 0 else detection.name, detection))
    return answer


def means(phrase: str, class_name: str) -> bool:
    """Whether the head noun of a phrase, singular or plural, is a class or a word of its name."""
    words = re.findall(r"[^\W_]+", _AFTER_HEAD.sub("", phrase.lower()))
    if not words:
        return False
    heads = {words[-1], words[-1].removesuffix("s"), words[-1].removesuffix("es")}
    return bool(heads & set(class_name.split()))
