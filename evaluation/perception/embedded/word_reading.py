"""Words in pictures: PP-OCR through rapidocr, on CPU, with the weights that its wheel brings.

Small pictures are enlarged four times first: capitals need about 5 pixels before that to be read. The detector works
at a shorter side of 256 pixels, a quarter of the cost of its default.
"""

from __future__ import annotations

import hashlib
import logging
import re
from functools import cached_property
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from evaluation.perception.embedded.identity import OCR_SHA256
from training.errors import FoundryError

DETECTOR_SIDE_PX = 256
UPSAMPLING = 4
_ALIKE_IN_BOTH_CASES = frozenset("cosvwxz")


def packaged_models() -> Path:
    """Folder of the weights inside the installed package rapidocr."""
    return Path(str(files("rapidocr"))) / "models"


def verify_weights(folder: Path | None = None) -> None:
    """Compare the weights with the sha256 recorded here.

    Raises:
        FoundryError: a file is missing or its bytes are not the recorded ones.
    """
    for name, expected in OCR_SHA256.items():
        path = (folder or packaged_models()) / name
        if not path.is_file():
            raise FoundryError(f"{path}: missing; reinstall the package rapidocr==3.10.0")
        found = hashlib.sha256(path.read_bytes()).hexdigest()
        if found != expected:
            raise FoundryError(
                f"{path}: sha256 is {found}, expected {expected}; reinstall the package rapidocr==3.10.0"
            )


class WordReader:
    """Reads the words in small pictures. The engine is loaded at the first reading and kept."""

    def __init__(self, threads: int = 1) -> None:
        self.threads = threads

    @cached_property
    def _engine(self) -> Any:
        from rapidocr import RapidOCR

        verify_weights()
        engine = RapidOCR(
            params={
                "Global.log_level": "error",
                "Global.use_cls": False,
                "Det.limit_side_len": DETECTOR_SIDE_PX,
                "Det.limit_type": "min",
                "EngineConfig.onnxruntime.intra_op_num_threads": self.threads,
                "EngineConfig.onnxruntime.inter_op_num_threads": 1,
            }
        )
        logging.getLogger("RapidOCR").setLevel(logging.ERROR)
        return engine

    def read(
        self,
        image_hwc: UInt8[np.ndarray, "h w 3"],
        near_xyxy_norm: tuple[float, float, float, float] | None = None,
    ) -> tuple[str, float]:
        """The words of an RGB picture, left to right and top to bottom, with the mean confidence in [0, 1].

        With ``near_xyxy_norm`` only lines whose centre lies in that box's rows count: ornaments elsewhere are
        easily taken for signs. ``("", 0.0)`` where no text is found.
        """
        import cv2

        factor = UPSAMPLING if max(image_hwc.shape[:2]) <= DETECTOR_SIDE_PX else 1
        size = (image_hwc.shape[1] * factor, image_hwc.shape[0] * factor)
        enlarged_bgr = cv2.resize(image_hwc, size, interpolation=cv2.INTER_CUBIC)[..., ::-1]
        # use_* persist on the engine between calls, so all three are given each time.
        result = self._engine(np.ascontiguousarray(enlarged_bgr), use_det=True, use_cls=False, use_rec=True)
        texts = getattr(result, "txts", None)
        if not texts:
            return "", 0.0
        rows = np.asarray(result.boxes)[:, :, 1].mean(axis=1) / size[1]
        top, bottom = (0.0, 1.0) if near_xyxy_norm is None else (near_xyxy_norm[1], near_xyxy_norm[3])
        kept = [
            (word, float(score))
            for word, score, row in zip((_clean(text) for text in texts), result.scores, rows, strict=True)
            if word and top <= row <= bottom
        ]
        if not kept:
            return "", 0.0
        return " ".join(word for word, _ in kept), float(np.mean([score for _, score in kept]))


def _clean(text: str) -> str:
    """Latin letters, digits and the marks inside words; other signs are nearly always ornaments misread."""
    kept = re.sub(r"[^A-Za-z0-9&'!?. -]", "", text).strip()
    return " ".join(in_one_case(word) for word in kept.split())


def in_one_case(word: str) -> str:
    """Capitals where a capital follows the first letter and all small ones look like capitals: "zoO" is "ZOO"."""
    small = [letter for letter in word if letter.islower()]
    has_capital = any(letter.isupper() for letter in word[1:])
    return word.upper() if has_capital and all(letter in _ALIKE_IN_BOTH_CASES for letter in small) else word
