"""Words in scenes: what the OCR engine reads, without what ornaments are taken for."""

from __future__ import annotations

import re
from functools import cached_property

import numpy as np
from jaxtyping import UInt8

from evaluation.perception.ocr.rapid import RapidReader
from evaluation.perception.ocr.reading import Line, joined

_ALIKE_IN_BOTH_CASES = frozenset("cosvwxz")


class WordReader:
    """Reads the words in small pictures. The engine is loaded at the first reading and kept."""

    def __init__(self, threads: int = 1) -> None:
        self.threads = threads

    @cached_property
    def _reader(self) -> RapidReader:
        return RapidReader(self.threads)

    def read(
        self,
        image_hwc: UInt8[np.ndarray, "h w 3"],
        near_xyxy_norm: tuple[float, float, float, float] | None = None,
    ) -> tuple[str, float]:
        """The words of an RGB picture, left to right and top to bottom, with the mean confidence in [0, 1].

        With ``near_xyxy_norm`` only lines whose centre lies in that box's rows count: ornaments elsewhere are
        easily taken for signs. ``("", 0.0)`` where no text is found.
        """
        top, bottom = (0.0, 1.0) if near_xyxy_norm is None else (near_xyxy_norm[1], near_xyxy_norm[3])
        return joined(
            Line(_clean(line.text), line.confidence)
            for line in self._reader.lines(image_hwc)
            if top <= line.middle_y <= bottom
        )


def _clean(text: str) -> str:
    """Latin letters, digits and the marks inside words; other signs are nearly always ornaments misread."""
    kept = re.sub(r"[^A-Za-z0-9&'!?. -]", "", text).strip()
    return " ".join(in_one_case(word) for word in kept.split())


def in_one_case(word: str) -> str:
    """Capitals where a capital follows the first letter and all small ones look like capitals: "zoO" is "ZOO"."""
    small = [letter for letter in word if letter.islower()]
    has_capital = any(letter.isupper() for letter in word[1:])
    return word.upper() if has_capital and all(letter in _ALIKE_IN_BOTH_CASES for letter in small) else word
