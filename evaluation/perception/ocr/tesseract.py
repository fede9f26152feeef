"""Tesseract by its command, a system package (Apache-2.0): a second opinion on what a picture says."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
from collections.abc import Iterator

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from evaluation.perception.ocr.identity import reader_digest
from evaluation.perception.ocr.reading import Line, Reader, box_of, enlarged
from training.errors import FoundryError

SECONDS_A_PICTURE = 60


class TesseractReader(Reader):
    """One process a picture. Raises FoundryError at once where the command is missing."""

    def __init__(
        self, command: str = "tesseract", page_mode: int = 6, language: str = "eng", threads: int = 1
    ) -> None:
        found = shutil.which(command)
        if found is None:
            raise FoundryError(
                f"OCR engine tesseract: no command '{command}' here; install the system package tesseract-ocr, give its path as "
                "'command', or name the engine rapidocr, whose weights come with it"
            )
        self.command, self.page_mode, self.language, self.threads = found, page_mode, language, threads
        version = self._run(["--version"], b"").splitlines()[0].strip()
        self._require_language()
        self.name = f"{version} (psm {page_mode}, {language})"
        settings = {"version_said": version, "page_mode": page_mode, "language": language}
        self.digest = reader_digest("tesseract", settings)

    def lines(self, image_hwc: UInt8[np.ndarray, "h w 3"]) -> list[Line]:
        """See :meth:`Reader.lines`."""
        buffer = io.BytesIO()
        Image.fromarray(enlarged(image_hwc)).save(buffer, format="PNG")
        told = ["stdin", "stdout", "--psm", str(self.page_mode), "-l", self.language, "tsv"]
        height, width = enlarged(image_hwc).shape[:2]
        return list(_lines_of(self._run(told, buffer.getvalue()), (width, height)))

    def _require_language(self) -> None:
        known = self._run(["--list-langs"], b"").split()
        if self.language not in known:
            raise FoundryError(
                f"OCR engine tesseract: language '{self.language}' is not installed, found {', '.join(known[-8:])}; install the "
                f"system package tesseract-ocr-{self.language} or name another"
            )

    def _run(self, told: list[str], given: bytes) -> str:
        environment = {**os.environ, "OMP_THREAD_LIMIT": str(self.threads)}
        done = subprocess.run(
            [self.command, *told],
            input=given,
            capture_output=True,
            env=environment,
            timeout=SECONDS_A_PICTURE,
            check=False,
        )
        if done.returncode != 0:
            said = done.stderr.decode(errors="replace").strip().splitlines()
            raise FoundryError(
                f"OCR engine tesseract: '{self.command} {' '.join(told)}' ended with {done.returncode}: "
                f"{said[-1] if said else 'nothing said'}; try the same command by hand"
            )
        return done.stdout.decode(errors="replace")


def _lines_of(table: str, size_px: tuple[int, int]) -> Iterator[Line]:
    """Lines of tesseract's TSV, whose rows of level 5 are words."""
    header, *rows = (row.split("\t") for row in table.splitlines())
    words: dict[tuple[str, ...], list[dict[str, str]]] = {}
    for row in rows:
        word = dict(zip(header, row, strict=False))
        if word.get("level") == "5" and word["text"].strip():
            place = (word["page_num"], word["block_num"], word["par_num"], word["line_num"])
            words.setdefault(place, []).append(word)
    for line in words.values():
        lefts, tops = ([float(word[side]) for word in line] for side in ("left", "top"))
        rights = [left + float(word["width"]) for left, word in zip(lefts, line, strict=True)]
        bottoms = [top + float(word["height"]) for top, word in zip(tops, line, strict=True)]
        yield Line(
            " ".join(word["text"].strip() for word in line),
            float(np.mean([float(word["conf"]) / 100 for word in line])),
            box_of(lefts + rights, tops + bottoms, size_px),
        )
