"""EasyOCR (Apache-2.0), the paper's own engine, where it is installed: it needs a torchvision that fits torch."""

from __future__ import annotations

import importlib.metadata
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from evaluation.perception.ocr.identity import reader_digest
from evaluation.perception.ocr.reading import Line, Reader, box_of, enlarged
from training.digests import sha256_file
from training.errors import FoundryError


class EasyReader(Reader):
    """English text; weights are read from a folder and never downloaded. Raises FoundryError at once where either is missing."""

    def __init__(self, folder: str | None = None) -> None:
        if find_spec("easyocr") is None:
            raise FoundryError(
                "OCR engine easyocr: the package is not installed; pip install easyocr with a torchvision that fits torch, or "
                "name the engine rapidocr, whose weights come with it"
            )
        self.folder = Path(folder or "~/.EasyOCR/model").expanduser()
        weights = sorted(self.folder.glob("*.pth"))
        if not weights:
            raise FoundryError(
                f"OCR engine easyocr: no weights (*.pth) in {self.folder}; give the folder of craft_mlt_25k.pth and "
                "english_g2.pth as 'folder'"
            )
        version = importlib.metadata.version("easyocr")
        self.name = f"easyocr {version} (en)"
        files = {path.name: sha256_file(path) for path in weights}
        self.digest = reader_digest("easyocr", {"package": version, "weights": files})

    @cached_property
    def _engine(self) -> Any:
        import easyocr

        return easyocr.Reader(
            ["en"], gpu=False, model_storage_directory=str(self.folder), download_enabled=False, verbose=False
        )

    def lines(self, image_hwc: UInt8[np.ndarray, "h w 3"]) -> list[Line]:
        """See :meth:`Reader.lines`."""
        image = enlarged(image_hwc)
        size = (image.shape[1], image.shape[0])
        return [
            Line(text, float(score), box_of([float(x) for x, _ in box], [float(y) for _, y in box], size))
            for box, text, score in self._engine.readtext(image)
        ]
