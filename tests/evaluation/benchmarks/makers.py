"""Benchmarks, pictures and judges made by hand."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from evaluation.benchmarks.layoutsam_eval import Judge
from evaluation.benchmarks.samples import AskedBox, LayoutSample
from evaluation.perception.questions import Asked, is_yes, read_question
from evaluation.tables.perception import ANSWERS


def picture(color: tuple[int, int, int], width: int = 16, height: int = 16) -> bytes:
    """A PNG of one colour."""
    return png(np.full((height, width, 3), color, dtype=np.uint8))


def png(image: np.ndarray) -> bytes:
    """Encoded bytes."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="PNG")
    return buffer.getvalue()


def sample(image_id: str, *boxes: AskedBox, caption: str = "a caption") -> LayoutSample:
    """A sample without a file name."""
    return LayoutSample(image_id, caption, boxes)


def box(phrase: str, detail: str = "", corners: tuple[float, ...] = (0.0, 0.0, 0.5, 0.5)) -> AskedBox:
    """An entity in the upper left quarter unless told otherwise."""
    x1, y1, x2, y2 = corners
    return AskedBox(phrase, detail or phrase, (x1, y1, x2, y2))


class Scripted:
    """A judge's batch function that answers by a function of the question, the picture and the box."""

    def __init__(self, say: Callable[[Asked, bytes, list[float]], str]) -> None:
        self.say = say
        self.asked: list[str] = []

    def __call__(self, rows: pa.Table) -> pa.Table:
        answers = []
        for row in rows.to_pylist():
            asked = read_question(row["question"])
            assert asked is not None
            self.asked.append(row["question_id"])
            said = self.say(asked, row["image"], row["box_xyxy_norm"])
            answers.append({"question_id": row["question_id"], "answer": said, "is_yes": is_yes(said)})
        about = {"model": "scripted", "model_digest": "d", "function_version": 1}
        return pa.Table.from_pylist([answer | about for answer in answers], schema=ANSWERS)


def judge(say: Callable[[Asked, bytes, list[float]], str], name: str = "scripted") -> Judge:
    """A judge that answers by a function."""
    return Judge(name, "d", Scripted(say))


def published_row(image_id: str, **other: Any) -> dict[str, Any]:
    """A row of LayoutSAM-Eval's schema: two boxes on a picture of 200 x 100 pixels."""
    return {
        "image": {"bytes": picture((9, 9, 9)), "path": f"{image_id}.jpg"},
        "image_id": image_id,
        "global_caption": "a cup and a plate",
        "detail_region_captions": "['a red cup', None]",
        "region_captions": "['a cup', \"the plate's rim\"]",
        "bbox_list": "[[0, 0, 100, 50], [100, 50, 200, 100]]",
        "width": 200,
        "height": 100,
        "file_name": f"{image_id}.jpg",
    } | other


def write_parquet(path: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    """Rows as a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist([dict(row) for row in rows]), path)
    return path
