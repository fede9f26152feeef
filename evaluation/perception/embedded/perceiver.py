"""Embedded perception: images in, described regions out, with models that come inside pip packages.

Pixels only. Regions by :mod:`~evaluation.perception.embedded.regions`, with the bank's own drawings found one behind
another and named so; other names by EfficientNet-Lite0 against a bank of training
concepts and by ConSE for the rest (:mod:`~evaluation.perception.embedded.naming`), words by OCR where a region looks like
text. In the demo the bank's pictures are the drawings that the scenes show, so names of training concepts are easier
than in the wild; the model's name says "bank of the same drawings". Photographs, whose background cannot be fitted,
give one region with a ConSE name of low confidence or none.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
from jaxtyping import UInt8

from evaluation.perception.decoding import decode_image
from evaluation.perception.embedded.bank import ConceptBank
from evaluation.perception.embedded.bank_views import View, view_of_region
from evaluation.perception.embedded.identity import (
    MAX_CROPS,
    PERCEPTION_VERSION,
    digest_with_bank,
    model_name,
)
from evaluation.perception.embedded.known_drawings import KnownDrawings
from evaluation.perception.embedded.naming import NO_NAME, Naming, name_crops
from evaluation.perception.embedded.regions import ANALYSIS_SIDE_PX, Layout, find_regions, shrink, whole_image
from evaluation.perception.embedded.word_reading import WordReader
from evaluation.perception.networks.efficientnet_lite import EfficientNetLite0, load_lite0, look
from evaluation.perception.run_lengths import encode_mask
from evaluation.tables.perception import REGIONS
from training.errors import FoundryError


class EmbeddedPerceiver:
    """A batch worker from rows (sample_id, image bytes) to rows of :data:`evaluation.tables.perception.REGIONS`.

    Every image gives at least one row; one without objects gives its whole area, unnamed. Models are loaded at the
    first batch and kept.

    Args:
        bank: names and features of training concepts.
        max_crops: largest regions per image that the network looks at; the others stay unnamed.
        threads: threads of torch and of the OCR engine while a batch runs.
        art: art set of the bank's pictures, one of :data:`evaluation.perception.embedded.identity.BANK_OF`; for the name alone.
        closed_set: name every region by the bank's closest concept (:func:`~evaluation.perception.embedded.naming.name_crops`).
        known_drawings: look for the bank's drawings before outlines and colours are asked.
    """

    def __init__(
        self,
        bank: ConceptBank,
        max_crops: int = MAX_CROPS,
        threads: int = 1,
        art: str = "twemoji",
        *,
        closed_set: bool = False,
        known_drawings: bool = True,
    ) -> None:
        if max_crops < 0 or threads < 1:
            raise FoundryError(
                f"max_crops is {max_crops} and threads is {threads}; max_crops must be 0 or more, threads 1 or more"
            )
        self.bank = bank
        self.max_crops = max_crops
        self.threads = threads
        self.art = art
        self.closed_set = closed_set
        self.known_drawings = known_drawings

    @property
    def model(self) -> str:
        """Name written into every row."""
        return model_name(self.art, closed_set=self.closed_set)

    @cached_property
    def digest(self) -> str:
        """sha256 over weights, bank and parameters; needs no model to be loaded. Threads do not count."""
        return digest_with_bank(
            self.bank.inputs_digest,
            self.max_crops,
            closed_set=self.closed_set,
            known_drawings=self.known_drawings,
        )

    @cached_property
    def _network(self) -> EfficientNetLite0:
        return load_lite0()

    @cached_property
    def _known(self) -> KnownDrawings | None:
        if not self.known_drawings:
            return None
        concepts = tuple(self.bank.concepts[index] for index in self.bank.picture_concept)
        return KnownDrawings(concepts, self.bank.pictures, ANALYSIS_SIDE_PX)

    @cached_property
    def _reader(self) -> WordReader:
        return WordReader(self.threads)

    def __call__(self, batch: pa.Table) -> pa.Table:
        """Regions of every image of ``batch``, in its order.

        Raises:
            FoundryError: a column is missing or an image cannot be decoded (named by its sample_id).
        """
        missing = sorted({"sample_id", "image"} - set(batch.column_names))
        if missing:
            raise FoundryError(
                f"perception input lacks the columns {', '.join(missing)}; given: {batch.column_names}"
            )
        sample_ids = batch.column("sample_id").to_pylist()
        images = [
            shrink(decode_image(data, f"sample {sample_id}"), 4 * ANALYSIS_SIDE_PX)
            for data, sample_id in zip(batch.column("image").to_pylist(), sample_ids, strict=True)
        ]
        from training.hardware import torch_threads

        with torch_threads(self.threads):
            layouts = [find_regions(image, self._known) for image in images]
            namings = self._name(images, layouts)
        rows: list[dict[str, Any]] = []
        for sample_id, image, layout, named in zip(sample_ids, images, layouts, namings, strict=True):
            rows += self._rows(sample_id, image, layout, named)
        return pa.Table.from_pylist(rows, schema=REGIONS)

    def _name(
        self, images: list[UInt8[np.ndarray, "_ _ 3"]], layouts: list[Layout]
    ) -> list[dict[int, Naming]]:
        """For every image, namings by region index; all crops of the batch go through the network together."""
        crops: list[View] = []
        places: list[tuple[int, int]] = []
        namings: list[dict[int, Naming]] = [{} for _ in images]
        for image_index, (image, layout) in enumerate(zip(images, layouts, strict=True)):
            objects = [index for index, region in enumerate(layout.regions) if not region.looks_like_text]
            for region_index in objects[: self.max_crops]:
                region = layout.regions[region_index]
                if region.concept:
                    naming = Naming((region.concept,), (region.agreement,), "concept_bank")
                    namings[image_index][region_index] = naming
                else:
                    crops.append(view_of_region(image, region))
                    places.append((image_index, region_index))
        if crops:
            pictures = [crop.image_hwc for crop in crops]
            features, logits = look(self._network, pictures, side_px=self.bank.side_px)
            colors = np.stack([crop.color_shares for crop in crops])
            named = name_crops(features, logits, colors, self.bank, closed_set=self.closed_set)
            for (image_index, region_index), naming in zip(places, named, strict=True):
                namings[image_index][region_index] = naming
        return namings

    def _rows(
        self, sample_id: str, image: UInt8[np.ndarray, "h w 3"], layout: Layout, named: dict[int, Naming]
    ) -> list[dict[str, Any]]:
        rows = []
        for index, region in enumerate(layout.regions or (whole_image(shrink(image, ANALYSIS_SIDE_PX)),)):
            naming = named.get(index, NO_NAME)
            text, text_score = "", 0.0
            if region.looks_like_text:
                text, text_score = self._reader.read(image, region.box_xyxy_norm)
            rows.append(
                {
                    "sample_id": sample_id,
                    "region_index": index,
                    "box_xyxy_norm": list(region.box_xyxy_norm),
                    "area_fraction": region.area_fraction,
                    "color": region.color,
                    "second_color": region.second_color,
                    "shape": region.shape,
                    "texture": region.texture,
                    "mask_rle": encode_mask(region.mask),
                    "mask_size": list(region.mask.shape),
                    "names": list(naming.names),
                    "name_scores": list(naming.scores),
                    "name_source": naming.source,
                    "text": text,
                    "text_score": text_score,
                    "background_kind": layout.background.kind,
                    "background_color": " and ".join(layout.background.colors),
                    "model": self.model,
                    "model_digest": self.digest,
                    "function_version": PERCEPTION_VERSION,
                }
            )
        return rows


def build_embedded_perceiver(
    bank: bytes,
    max_crops: int = MAX_CROPS,
    threads: int = 1,
    art: str = "twemoji",
    *,
    closed_set: bool = False,
    known_drawings: bool = True,
) -> EmbeddedPerceiver:
    """The perceiver, inside a worker: module-level and with plain arguments, so that it travels by name.

    ``bank`` is what :meth:`evaluation.perception.embedded.bank.ConceptBank.to_bytes` gave.
    """
    return EmbeddedPerceiver(
        ConceptBank.from_bytes(bank),
        max_crops,
        threads,
        art,
        closed_set=closed_set,
        known_drawings=known_drawings,
    )
