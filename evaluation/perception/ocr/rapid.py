"""PP-OCR through rapidocr, on CPU, with the weights that its wheel brings.

The detector works at a shorter side of 256 pixels unless told otherwise, a quarter of the cost of its default.
"""

from __future__ import annotations

import hashlib
import logging
from functools import cached_property
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from evaluation.perception.ocr.identity import RAPID_SHA256, rapid_digest, rapid_name
from evaluation.perception.ocr.reading import Line, Reader, box_of, enlarged
from training.errors import FoundryError

DETECTOR_SIDE_PX = 256


def packaged_models() -> Path:
    """Folder of the weights inside the installed package rapidocr."""
    return Path(str(files("rapidocr"))) / "models"


def verify_weights(folder: Path | None = None) -> None:
    """Compare the weights with the sha256 recorded here.

    Raises:
        FoundryError: a file is missing or its bytes are not the recorded ones.
    """
    for name, expected in RAPID_SHA256.items():
        path = (folder or packaged_models()) / name
        if not path.is_file():
            raise FoundryError(f"{path}: missing; reinstall the package rapidocr==3.10.0")
        found = hashlib.sha256(path.read_bytes()).hexdigest()
        if found != expected:
            raise FoundryError(
                f"{path}: sha256 is {found}, expected {expected}; reinstall the package rapidocr==3.10.0"
            )


class RapidReader(Reader):
    """The default engine. It is loaded at the first reading and kept."""

    def __init__(self, threads: int = 1, detector_side_px: int = DETECTOR_SIDE_PX) -> None:
        self.threads = threads
        self.detector_side_px = detector_side_px
        self.name = rapid_name(detector_side_px)
        self.digest = rapid_digest(detector_side_px)

    @cached_property
    def _engine(self) -> Any:
        from rapidocr import RapidOCR

        verify_weights()
        engine = RapidOCR(
            params={
                "Global.log_level": "error",
                "Global.use_cls": False,
                "Det.limit_side_len": self.detector_side_px,
                "Det.limit_type": "min",
                "EngineConfig.onnxruntime.intra_op_num_threads": self.threads,
                "EngineConfig.onnxruntime.inter_op_num_threads": 1,
            }
        )
        logging.getLogger("RapidOCR").setLevel(logging.ERROR)
        return engine

    def lines(self, image_hwc: UInt8[np.ndarray, "h w 3"]) -> list[Line]:
        """See :meth:`Reader.lines`."""
        bgr = np.ascontiguousarray(enlarged(image_hwc)[..., ::-1])
        # use_* persist on the engine between calls, so all three are given each time.
        result = self._engine(bgr, use_det=True, use_cls=False, use_rec=True)
        texts = getattr(result, "txts", None)
        if not texts:
            return []
        size = (bgr.shape[1], bgr.shape[0])
        corners = np.asarray(result.boxes, np.float64)  # [lines, 4, 2] in pixels
        return [
            Line(text, float(score), box_of(own[:, 0].tolist(), own[:, 1].tolist(), size))
            for text, score, own in zip(texts, result.scores, corners, strict=True)
        ]
