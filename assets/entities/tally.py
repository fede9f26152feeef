"""What an export counts as the images go by, for its card. Memory is bounded by the distinct licences and credits."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field

from assets.entities.formats.records import AnnotatedImage
from assets.entities.phrase_concepts import concept_of

MAX_CREDITS = 1000
"""Distinct attributions that are kept; more are counted and the reader is sent to the rows."""


@dataclass
class Tally:
    """Counts over exported images. ``words`` and ``captions`` are by the model that wrote the captions.

    ``without_entities`` and ``removed`` (taken down since the last run) count what was left out.
    """

    num_images: int = 0
    without_entities: int = 0
    removed: int = 0
    sources: Counter[str] = field(default_factory=Counter)
    splits: Counter[str] = field(default_factory=Counter)
    licenses: Counter[str] = field(default_factory=Counter)
    credits: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    num_credits_left_out: int = 0
    captions: Counter[str] = field(default_factory=Counter)
    words: Counter[str] = field(default_factory=Counter)
    entities_per_image: Counter[int] = field(default_factory=Counter)
    concepts: Counter[str] = field(default_factory=Counter)
    num_masks: int = 0
    area_sum: float = 0.0
    sides: Counter[tuple[int, int]] = field(default_factory=Counter)

    @property
    def num_entities(self) -> int:
        """Entities of all images."""
        return sum(number * images for number, images in self.entities_per_image.items())

    def add(self, record: AnnotatedImage) -> None:
        """Count one image."""
        self.num_images += 1
        self.sources[record.source] += 1
        self.splits[record.split] += 1
        self.licenses[record.license] += 1
        self._credit(record.license, record.attribution)
        for caption in record.captions:
            self.captions[caption.model] += 1
            self.words[caption.model] += len(caption.text.split())
        self.entities_per_image[len(record.entities)] += 1
        for entity in record.entities:
            x1, y1, x2, y2 = entity.box_xyxy_norm
            self.area_sum += (x2 - x1) * (y2 - y1)
            self.concepts[concept_of(entity.phrase)] += 1
            self.num_masks += bool(entity.mask_rle)
        self.sides[_rounded_sides(record.width, record.height)] += 1

    def _credit(self, license_name: str, attribution: str) -> None:
        if not attribution:
            return
        known = self.credits[license_name]
        if attribution not in known and sum(len(found) for found in self.credits.values()) >= MAX_CREDITS:
            self.num_credits_left_out += 1
            return
        known[attribution] += 1


def _rounded_sides(width: int, height: int) -> tuple[int, int]:
    """Sizes to two digits, so that a collection of photographs does not make a class of every picture."""
    return tuple(round(side, -(len(str(side)) - 2)) if side >= 100 else side for side in (width, height))  # type: ignore[return-value]
