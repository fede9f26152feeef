"""A page to look through annotated samples: one HTML file without addresses outside itself, works from a disk.

Captions, phrases and names are untrusted: they travel as JSON in which no tag can begin, and the page's script puts
them in place as text, never as markup. The page's policy (CSP) allows its own script and style, by their digests, and
pictures inside the file; nothing else.
"""

from __future__ import annotations

import base64
import hashlib
import html
import io
import json
import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from assets.entities.phrase_concepts import concept_of
from training.errors import FoundryError
from training.run_folder import write_bytes_atomic

PAGE_FILE = "index.html"
MAX_TEXT = 1000
"""Characters of one caption or description that the page carries; longer ones end in an ellipsis."""
MAX_CAPTIONS, MAX_ENTITIES = 12, 60
_TEMPLATE = Path(__file__).parent / "templates" / "browse.html"
_THUMBNAIL_BYTES = 60_000
_LOSSLESS_PX = 128


@dataclass(frozen=True)
class PageCaption:
    """A caption as the page shows it. ``score`` is None for an alt-text; ``dropped`` is empty where it was kept."""

    text: str
    model: str
    score: float | None = None
    dropped: str = ""


@dataclass(frozen=True)
class PageEntity:
    """An entity as the page shows it: normalised box, scores in [0, 1], ``dropped`` empty where it was kept."""

    phrase: str
    concept: str
    description: str
    box: tuple[float, float, float, float]
    score: float
    detector_score: float
    annotator: str
    dropped: str = ""


@dataclass(frozen=True)
class PageSample:
    """One sample: its picture's encoded bytes as landed, where it comes from, its captions and entities."""

    sample_id: str
    image: bytes
    split: str
    license: str = "unknown"
    attribution: str = ""
    captions: tuple[PageCaption, ...] = ()
    entities: tuple[PageEntity, ...] = field(default=())


def choose_samples(annotations: pa.Table, max_samples: int = 240) -> list[str]:
    """Ids of at most ``max_samples`` samples, spread over annotators and over the reasons for which entities fell.

    Every (annotator, reason) takes turns in naming its next sample, in order of sample_id, so that a rare reason is
    seen as well as a common one. ``annotations``: sample_id, annotator, dropped_because.
    Raises FoundryError when ``max_samples`` is below 1.
    """
    if max_samples < 1:
        raise FoundryError(f"max_samples is {max_samples}; at least 1 is needed")
    columns = ["annotator", "dropped_because", "sample_id"]
    strata: dict[tuple[str, str], list[str]] = defaultdict(list)
    distinct = annotations.group_by(columns).aggregate([])
    for row in distinct.sort_by([(name, "ascending") for name in columns]).to_pylist():
        strata[row["annotator"], row["dropped_because"]].append(row["sample_id"])
    queues = [iter(ids) for ids in strata.values()]
    chosen: dict[str, None] = {}
    while queues and len(chosen) < max_samples:
        going = []
        for queue in queues:
            fresh = next((sample_id for sample_id in queue if sample_id not in chosen), None)
            if fresh is not None and len(chosen) < max_samples:
                chosen[fresh] = None
                going.append(queue)
        queues = going
    return list(chosen)


def gather_samples(
    sample_ids: Sequence[str],
    images: pa.Table,
    recaptions: pa.Table,
    annotations: pa.Table,
    concept_names: Sequence[str] = (),
) -> list[PageSample]:
    """What the page shows of the chosen samples, in their order; an id without an image is left out.

    Args:
        sample_ids: as chosen by :func:`choose_samples`.
        images: landed_images (sample_id, image, split, alt_text, license, attribution), any superset of the chosen.
        recaptions: recaptions (sample_id, caption_index, caption, score, model, keep, dropped_because).
        annotations: entity_annotations, dropped rows included.
        concept_names: names of several words that count as one concept, such as "soccer ball".
    """
    wanted = pa.array(list(sample_ids), pa.string())
    captions: dict[str, list[PageCaption]] = defaultdict(list)
    for row in _rows(recaptions, wanted, [("sample_id", "ascending"), ("caption_index", "ascending")]):
        dropped = "" if row["keep"] else row["dropped_because"] or "dropped"
        captions[row["sample_id"]].append(PageCaption(row["caption"], row["model"], row["score"], dropped))
    entities: dict[str, list[PageEntity]] = defaultdict(list)
    order = [("sample_id", "ascending"), ("annotator", "ascending"), ("entity_index", "ascending")]
    for row in _rows(annotations, wanted, order):
        entities[row["sample_id"]].append(_entity(row, concept_names))
    columns = ["sample_id", "image", "split", "alt_text", "license", "attribution"]
    samples = {
        row["sample_id"]: PageSample(
            row["sample_id"], row["image"], row["split"], row["license"], row["attribution"],
            (PageCaption(row["alt_text"], "alt-text"), *captions[row["sample_id"]]),
            tuple(entities[row["sample_id"]]),
        )
        for row in _rows(images.select(columns), wanted, [])
    }  # fmt: skip
    return [samples[sample_id] for sample_id in sample_ids if sample_id in samples]


def write_pages(
    folder: Path,
    samples: Sequence[PageSample],
    *,
    title: str,
    facts: Mapping[str, str] | None = None,
    thumbnail_px: int = 320,
) -> Path:
    """Write ``index.html`` into ``folder`` (made when missing) and return its path.

    ``facts`` stand below the title, such as the digest of the annotations and how many samples there are in all. The
    pictures are inside the file, their longer side at most ``thumbnail_px`` pixels (smaller ones as they are). Equal
    input gives equal bytes. Raises FoundryError when there is nothing to show, or for a folder that cannot be written.
    """
    if not samples:
        raise FoundryError("annotation pages: found no samples; annotate at least one image first")
    page = render_page(samples, title=title, facts=facts or {}, thumbnail_px=thumbnail_px)
    target = folder / PAGE_FILE
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_bytes_atomic(target, page.encode("utf-8"))
    except OSError as error:
        raise FoundryError(
            f"{target}: cannot be written ({error.strerror}). Free some space or allow writing there."
        ) from error
    return target


def render_page(
    samples: Sequence[PageSample], *, title: str, facts: Mapping[str, str], thumbnail_px: int = 320
) -> str:
    """The page as text."""
    data = {
        "title": _clean(title),
        "facts": {_clean(name): _clean(value) for name, value in facts.items()},
        "samples": [_as_data(sample, thumbnail_px) for sample in samples],
    }
    template = _TEMPLATE.read_text(encoding="utf-8")
    # The template's own script and style are allowed by digest, so nothing else can run or restyle the page.
    policy = "; ".join(
        [
            "default-src 'none'",
            "img-src data:",
            *(f"{kind}-src '{_digest(_only(template, tag))}'" for kind, tag in (("script", "script"), ("style", "style"))),
            "base-uri 'none'",
            "form-action 'none'",
        ]
    )  # fmt: skip
    parts = {"POLICY": html.escape(policy), "TITLE": html.escape(_clean(title)), "DATA": script_json(data)}
    return re.sub(r"@@(POLICY|TITLE|DATA)@@", lambda found: parts[found[1]], template)


def script_json(data: Any) -> str:
    """JSON that may stand inside a script element: no character in it can begin a tag or a comment."""
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def count_reasons(annotations: pa.Table) -> dict[str, int]:
    """Entities by why they were dropped, ``kept`` for those that were not; for the asset's page."""
    reasons = pc.if_else(annotations["keep"], "kept", annotations["dropped_because"])
    return dict(sorted(Counter(reasons.to_pylist()).items()))


def _rows(table: pa.Table, wanted: pa.Array, order: list[tuple[str, str]]) -> list[dict[str, Any]]:
    chosen = table.filter(pc.is_in(table["sample_id"], value_set=wanted))
    return (chosen.sort_by(order) if order else chosen).to_pylist()


def _entity(row: Mapping[str, Any], concept_names: Sequence[str]) -> PageEntity:
    x1, y1, x2, y2 = (float(value) for value in row["box_xyxy_norm"])
    return PageEntity(
        phrase=row["phrase"],
        concept=concept_of(row["phrase"], concept_names),
        description=row["description"] or "",
        box=(x1, y1, x2, y2),
        score=row["score"],
        detector_score=row["detector_score"],
        annotator=row["annotator"],
        dropped="" if row["keep"] else row["dropped_because"] or "dropped",
    )


def _as_data(sample: PageSample, thumbnail_px: int) -> dict[str, Any]:
    """A sample as the page's script reads it: bounded texts, rounded numbers, the picture as a data address."""
    address, width, height = _thumbnail(sample.image, thumbnail_px)
    return {
        "id": _clean(sample.sample_id),
        "split": _clean(sample.split),
        "license": _clean(sample.license),
        "attribution": _clean(sample.attribution),
        "image": address,
        "width": width,
        "height": height,
        "captions": [_cleaned(asdict(caption)) for caption in sample.captions[:MAX_CAPTIONS]],
        "entities": [_cleaned(asdict(entity)) for entity in sample.entities[:MAX_ENTITIES]],
    }


def _cleaned(values: Mapping[str, Any]) -> dict[str, Any]:
    cleaned: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, str):
            cleaned[name] = _clean(value)
        elif isinstance(value, tuple):
            cleaned[name] = [round(min(max(number, 0.0), 1.0), 4) for number in value]
        else:
            cleaned[name] = value if value is None else round(float(value), 3)
    return cleaned


def _clean(text: str) -> str:
    """One printable line of bounded length; direction marks, which could disguise a text, are gone."""
    from evaluation.plots.contact_sheets import safe_text

    return safe_text(text, MAX_TEXT)


def _thumbnail(image: bytes, side: int) -> tuple[str, int, int]:
    """(data address, width, height in pixels): small pictures without loss, large ones as JPEG."""
    from PIL import Image

    from assets.corpus.image_io import decode_rgb
    from evaluation.plots.contact_sheets import inline_jpeg

    picture = Image.fromarray(decode_rgb(image, max_pixels=2**31))
    is_small = max(picture.size) <= _LOSSLESS_PX
    picture.thumbnail((side, side))
    if is_small:
        buffer = io.BytesIO()
        picture.save(buffer, "PNG")
        data, kind = buffer.getvalue(), "png"
    else:
        data, kind = inline_jpeg(picture, _THUMBNAIL_BYTES), "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}", picture.width, picture.height


def _only(template: str, tag: str) -> str:
    """Content of the template's only plain element of that name."""
    return re.findall(rf"<{tag}>(.*?)</{tag}>", template, re.DOTALL)[0]


def _digest(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"
