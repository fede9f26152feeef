"""An OCR engine as a worker of the role ``ocr``: a row a picture."""

from __future__ import annotations

import pyarrow as pa

from evaluation.perception.decoding import decode_image
from evaluation.perception.ocr.identity import READING_VERSION
from evaluation.perception.ocr.reading import Reader, joined
from evaluation.tables.perception import READINGS


class OcrWorker:
    """Reads every picture of a batch."""

    def __init__(self, reader: Reader) -> None:
        self.reader = reader

    def __call__(self, batch: pa.Table) -> pa.Table:
        """Readings in the batch's order. Raises FoundryError that names a sample whose picture is broken."""
        rows = [
            self._read(*row)
            for row in zip(*(batch[name].to_pylist() for name in ("sample_id", "image")), strict=True)
        ]
        return pa.Table.from_pylist(rows, schema=READINGS)

    def _read(self, sample_id: str, image: bytes) -> dict[str, object]:
        lines = self.reader.lines(decode_image(image, f"sample {sample_id}"))
        text, confidence = joined(lines)
        return {
            "sample_id": sample_id,
            "text": text,
            "confidence": confidence,
            "boxes_xyxy_norm": [list(line.box_xyxy_norm) for line in lines],
            "model": self.reader.name,
            "model_digest": self.reader.digest,
            "function_version": READING_VERSION,
        }
