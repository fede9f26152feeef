"""COCO's JSON: images, annotations with ``bbox`` [x, y, width, height] in pixels, categories, licences.

``<folder>/annotations/instances_<split>.json`` and ``<folder>/<split>/<image file>``. A category is the concept that a
phrase names. Beyond COCO's own keys an image carries ``captions``, ``sample_id``, ``attribution`` and ``source``, and
an annotation ``phrase``, ``description`` and ``score``; readers of COCO pass over what they do not know.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from assets.entities.formats.records import (
    AnnotatedCaption,
    AnnotatedEntity,
    AnnotatedImage,
    image_path_of,
    read_json,
    safe_path,
)
from assets.entities.phrase_concepts import concept_of
from evaluation.box_conventions import from_xywh_px, to_xywh_px
from training.errors import FoundryError


def write_coco(
    folder: Path, records: Iterable[AnnotatedImage], split: str = "train", concept_names: Iterable[str] = ()
) -> int:
    """Write images and one JSON of them; returns the number of images. Memory holds one image and the names.

    Masks of another size than their image's are scaled to it, as COCO's tools want them.
    """
    names = tuple(concept_names)
    images_folder, json_folder = folder / split, folder / "annotations"
    json_folder.mkdir(parents=True, exist_ok=True)
    images_folder.mkdir(parents=True, exist_ok=True)
    categories: dict[str, int] = {}
    licenses: dict[str, int] = {}
    num_images = num_boxes = 0
    final = json_folder / f"instances_{split}.json"
    boxes_file = json_folder / ".annotations.part"
    with final.open("w", encoding="utf-8") as file, boxes_file.open("w+", encoding="utf-8") as boxes:
        file.write('{"info":{"description":"annotated images"},"images":[')
        for record in records:
            num_images += 1
            file_name = _write_image(images_folder, record)
            license_id = licenses.setdefault(record.license, len(licenses) + 1)
            _append(file, _image(record, num_images, file_name, license_id), num_images == 1)
            for entity in record.entities:
                num_boxes += 1
                concept = concept_of(entity.phrase, names) or "object"
                category = categories.setdefault(concept, len(categories) + 1)
                _append(boxes, _annotation(record, entity, num_boxes, num_images, category), num_boxes == 1)
        file.write('],"annotations":[')
        boxes.seek(0)
        while part := boxes.read(2**20):
            file.write(part)
        listed = [{"id": number, "name": name, "supercategory": ""} for name, number in categories.items()]
        known = [{"id": number, "name": name, "url": ""} for name, number in licenses.items()]
        file.write(f'],"categories":{json.dumps(listed)},"licenses":{json.dumps(known)}}}')
    boxes_file.unlink()
    return num_images


def read_coco(path: Path, images: Path | None = None) -> Iterator[AnnotatedImage]:
    """Images of an instances file, or of the only one of a folder as :func:`write_coco` leaves it.

    ``images`` is the folder of the image files (default: the split's folder beside ``annotations/``). An absent image
    is read as None. Crowds are left out: their box is not one thing's. The file is held in memory, as COCO's tools do.
    Raises FoundryError for a file that is not of the form, or for an impossible box.
    """
    file = _instances_file(path)
    content = read_json(file)
    place = images or file.parent.parent / file.stem.removeprefix("instances_")
    try:
        categories = {entry["id"]: entry["name"] for entry in content["categories"]}
        licenses = {entry["id"]: entry["name"] for entry in content.get("licenses", [])}
        by_image: dict[Any, list[Mapping[str, Any]]] = {}
        for annotation in content["annotations"]:
            if not annotation.get("iscrowd"):
                by_image.setdefault(annotation["image_id"], []).append(annotation)
        for entry in content["images"]:
            yield _record(entry, by_image.get(entry["id"], []), categories, licenses, place, file.stem)
    except (KeyError, TypeError, AttributeError) as error:
        raise FoundryError(
            f"{file}: is not COCO's form ({type(error).__name__}: {error}); needed are images, annotations and "
            "categories. Correct the file."
        ) from error


def _instances_file(path: Path) -> Path:
    if path.is_file():
        return path
    found = sorted((path / "annotations").glob("instances_*.json"))
    if len(found) != 1:
        raise FoundryError(
            f"{path}: holds {len(found)} files annotations/instances_*.json; name one of them."
        )
    return found[0]


def _append(file: IO[str], entry: Mapping[str, Any], first: bool) -> None:
    file.write(("" if first else ",\n") + json.dumps(entry, ensure_ascii=False))


def _write_image(folder: Path, record: AnnotatedImage) -> str:
    file_name = Path(image_path_of(record)).name
    if record.image is not None:
        (folder / file_name).write_bytes(record.image)
    return file_name


def _image(record: AnnotatedImage, image_id: int, file_name: str, license_id: int) -> dict[str, Any]:
    return {
        "id": image_id,
        "file_name": file_name,
        "width": record.width,
        "height": record.height,
        "license": license_id,
        "captions": [vars(caption) for caption in record.captions],
        "sample_id": record.sample_id,
        "attribution": record.attribution,
        "source": record.source,
        "split": record.split,
    }


def _annotation(
    record: AnnotatedImage, entity: AnnotatedEntity, number: int, image_id: int, category: int
) -> dict[str, Any]:
    box = to_xywh_px(entity.box_xyxy_norm, record.width, record.height)
    counts, area = _mask(entity, record.width, record.height)
    return {
        "id": number,
        "image_id": image_id,
        "category_id": category,
        "bbox": list(box),
        "area": round(box[2] * box[3], 2) if area is None else area,
        "segmentation": {"size": [record.height, record.width], "counts": counts} if counts else [],
        "iscrowd": 0,
        "phrase": entity.phrase,
        "description": entity.description,
        "score": entity.score,
        "detector_score": entity.detector_score,
    }


def _mask(entity: AnnotatedEntity, width: int, height: int) -> tuple[str, int | None]:
    """Run lengths at the image's size and their pixels; ("", None) without a mask."""
    if not entity.mask_rle:
        return "", None
    import numpy as np

    from evaluation.perception.run_lengths import decode_mask, encode_mask, mask_area

    if entity.mask_size == (height, width):
        return entity.mask_rle, mask_area(entity.mask_rle)
    mask = decode_mask(entity.mask_rle, *entity.mask_size)
    rows = (np.arange(height) * mask.shape[0]) // height
    columns = (np.arange(width) * mask.shape[1]) // width
    scaled = mask[rows[:, None], columns[None]]
    return encode_mask(scaled), int(scaled.sum())


def _record(
    entry: Mapping[str, Any],
    annotations: list[Mapping[str, Any]],
    categories: Mapping[Any, str],
    licenses: Mapping[Any, str],
    place: Path,
    where: str,
) -> AnnotatedImage:
    file_name = str(entry["file_name"])
    width, height = int(entry["width"]), int(entry["height"])
    relative = safe_path(file_name)
    path = place / relative if relative is not None else None
    sample_id = str(entry.get("sample_id", entry["id"]))
    entities = []
    for annotation in annotations:
        box = from_xywh_px(annotation["bbox"], width, height, f"{where}: {file_name}", annotation["id"])
        segmentation = annotation.get("segmentation")
        has_mask = isinstance(segmentation, Mapping) and isinstance(segmentation["counts"], str)
        mask_height, mask_width = segmentation["size"] if has_mask and segmentation else (0, 0)
        name = categories[annotation["category_id"]]
        entities.append(
            AnnotatedEntity(
                phrase=annotation.get("phrase", name),
                description=annotation.get("description", ""),
                box_xyxy_norm=box,
                score=annotation.get("score"),
                detector_score=annotation.get("detector_score"),
                mask_rle=segmentation["counts"] if has_mask and segmentation else "",
                mask_size=(int(mask_height), int(mask_width)),
            )
        )
    return AnnotatedImage(
        sample_id=sample_id,
        image=path.read_bytes() if path is not None and path.is_file() else None,
        width=width,
        height=height,
        file_name=file_name,
        captions=tuple(AnnotatedCaption(**caption) for caption in entry.get("captions", ())),
        entities=tuple(entities),
        license=licenses.get(entry.get("license"), "unknown"),
        attribution=entry.get("attribution", ""),
        source=entry.get("source", "COCO"),
        split=entry.get("split", ""),
    )
