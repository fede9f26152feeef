"""What a detector finds of a benchmark's phrases in generated pictures, as box metrics take it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa

from evaluation.benchmarks.layoutsam_eval import PICTURES_AT_ONCE, require_pictures
from evaluation.benchmarks.samples import LayoutSample
from evaluation.metrics.box_metrics import Boxes, LabelledBox
from evaluation.perception.role_models import BatchFunction
from evaluation.tables.perception import REGIONS

LabelOf = Callable[[str], str]
"""Of a phrase what is compared, such as its head noun: "a red apple" and "two apples" are both "apple"."""
_REGION = pa.list_(pa.struct([field for field in REGIONS if field.name != "sample_id"]))


@dataclass(frozen=True)
class Detector:
    """A model in perception's role ``detector``; ``regions`` is what looks for it, where it reads regions."""

    name: str
    find: BatchFunction
    regions: BatchFunction | None = None


def head_of(phrase: str) -> str:
    """The head noun of a phrase, in singular."""
    from evaluation.perception.hub.phrases import head_noun, singular

    return singular(head_noun(phrase))


def told_boxes(samples: Sequence[LayoutSample], label_of: LabelOf = head_of) -> Boxes:
    """The benchmark's boxes by picture; samples without boxes are left out."""
    return {
        sample.image_id: [LabelledBox(label_of(box.phrase), box.box_xyxy_norm) for box in sample.boxes]
        for sample in samples
        if sample.boxes
    }


def found_boxes(
    samples: Sequence[LayoutSample],
    pictures: Mapping[str, bytes],
    detector: Detector,
    label_of: LabelOf = head_of,
) -> Boxes:
    """What the detector finds in every picture when it is asked for the sample's phrases. Its score is that an object is
    there times that the phrase fits it.

    Raises FoundryError where a sample has no picture.
    """
    require_pictures(samples, pictures)
    asked = [sample for sample in samples if sample.boxes]
    found: dict[str, list[LabelledBox]] = {sample.image_id: [] for sample in asked}
    for first in range(0, len(asked), PICTURES_AT_ONCE):
        for row in _detect(asked[first : first + PICTURES_AT_ONCE], pictures, detector).to_pylist():
            box = LabelledBox(
                label_of(row["phrase"]), tuple(row["box_xyxy_norm"]), row["score"] * row["name_score"]
            )
            found[row["sample_id"]].append(box)
    return found


def _detect(samples: Sequence[LayoutSample], pictures: Mapping[str, bytes], detector: Detector) -> pa.Table:
    ids = [sample.image_id for sample in samples]
    images = pa.array([pictures[image_id] for image_id in ids], pa.binary())
    phrases = [list(dict.fromkeys(box.phrase for box in sample.boxes)) for sample in samples]
    rows = pa.table({"sample_id": ids, "image": images, "phrases": phrases})
    if detector.regions is None:
        return detector.find(rows)
    by_id = regions_by_id(rows.select(["sample_id", "image"]), detector.regions)
    return detector.find(rows.append_column("regions", as_regions([by_id[name] for name in ids])))


def regions_by_id(pictures: pa.Table, look: BatchFunction) -> dict[str, list[dict[str, object]]]:
    """What is seen in pictures (``sample_id``, ``image``), as models that read regions take it."""
    by_id: dict[str, list[dict[str, object]]] = {name: [] for name in pictures["sample_id"].to_pylist()}
    for region in look(pictures).to_pylist():
        by_id[region.pop("sample_id")].append(region)
    return by_id


def as_regions(rows: Sequence[Sequence[Mapping[str, object]]]) -> pa.Array:
    """The column ``regions`` of a worker's rows."""
    return pa.array(rows, _REGION)
