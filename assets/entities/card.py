"""The card of an exported data set, in Markdown: what it is, where it comes from, under which licences, and its limits.

Attributions, phrases and names are untrusted: whatever could become markup, a link or a heading is escaped.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from assets.entities.licenses import license_class
from assets.entities.tally import Tally
from assets.pages.markdown import escape, markdown_table
from assets.pages.tables import Cell, Column, Table

NUM_CONCEPTS, NUM_CREDITS, NUM_SIZES = 30, 200, 8
LICENCES = (Column("Licence"), Column("Kind"), Column("Images", ","), Column("Share", ".1%"))
CAPTIONS = (
    Column("Captions by"),
    Column("Captions", ","),
    Column("Per image", ".2f"),
    Column("Words each", ".1f"),
)
ENTITIES = (Column("Entities in an image", right=True), Column("Images", ","))
MODELS = (Column("Role"), Column("Model"), Column("Digest"), Column("Function version", right=True))
FILTERS = (Column("Table"), Column("Reason"), Column("Rows", ","), Column("Share", ".1%"))
FINDINGS = (Column("Finding"), Column("Value"))
_LOADING = {
    "huggingface": 'import datasets\nrows = datasets.load_dataset("FOLDER", split="{split}")',
    "layoutsam": (
        'import datasets\nrows = datasets.load_dataset("FOLDER", split="{split}")\n'
        "# the image of a row lies at FOLDER/images/<image_path>"
    ),
    "layoutsam-eval": (
        'import ast, datasets\nrow = datasets.load_dataset("FOLDER", split="{split}")[0]\n'
        'boxes_px = ast.literal_eval(row["bbox_list"])'
    ),
    "coco": (
        'from pycocotools.coco import COCO\ncoco = COCO("FOLDER/annotations/instances_{split}.json")\n'
        "# the images lie in FOLDER/{split}/"
    ),
    "webdataset": (
        'import datasets\nrows = datasets.load_dataset("webdataset", data_dir="FOLDER", split="train")\n'
        "# or any reader of tars: <sample_id>.png beside <sample_id>.json"
    ),
}


@dataclass(frozen=True)
class ModelRow:
    """A model that wrote rows of the data set, and in which role."""

    role: str
    name: str
    digest: str
    function_version: int | None = None


@dataclass(frozen=True)
class CardFacts:
    """Everything a card says. ``judge_digest`` is empty where no judge was trained."""

    title: str
    format_name: str
    table: str
    split: str
    digest: str
    versions: Mapping[str, str]
    tally: Tally
    models: Sequence[ModelRow] = ()
    dropped: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    not_held: Sequence[str] = ()
    judge_digest: str = ""
    benchmark_findings: Mapping[str, Any] = field(default_factory=dict)


def dataset_card(facts: CardFacts, header: Mapping[str, Any] | None = None) -> str:
    """The card as Markdown, with a YAML header where one is given. Equal facts give equal text."""
    parts = [
        _front_matter(header or {}, facts),
        f"# {escape(facts.title)}",
        _summary(facts),
        _licenses(facts.tally),
        _statistics(facts.tally),
        _models(facts.models),
        _filters(facts),
        _independence(facts),
        _limits(facts),
        _benchmark(facts.benchmark_findings),
        _use(facts),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _front_matter(header: Mapping[str, Any], facts: CardFacts) -> str:
    import yaml

    values: dict[str, Any] = dict(header)
    if header:
        values = {"pretty_name": escape(facts.title), "license": "other", **values}
    if not values:
        return ""
    return f"---\n{yaml.safe_dump(values, sort_keys=False, allow_unicode=True)}---"


def _summary(facts: CardFacts) -> str:
    tally = facts.tally
    what = {
        "training": "Images with an original text, generated captions, and entities: a phrase, a description, a box.",
        "benchmark": "Prompts with boxes and descriptions, in the manner of LayoutSAM-Eval, held out from training.",
    }.get(facts.table, facts.table)
    sources = ", ".join(f"{escape(name)} ({count:,})" for name, count in tally.sources.most_common())
    splits = ", ".join(f"{escape(name)} ({count:,})" for name, count in tally.splits.most_common())
    return (
        f"{what}\n\n- Images: {tally.num_images:,}; captions: {sum(tally.captions.values()):,}; "
        f"entities: {tally.num_entities:,}; masks: {tally.num_masks:,}\n- Sources: {sources}\n- Split: {splits}\n"
        f"- Format: {facts.format_name}\n- Data set digest: `{facts.digest}`"
    )


def _licenses(tally: Tally) -> str:
    rows = [
        (name, license_class(name), count, count / tally.num_images)
        for name, count in tally.licenses.most_common()
    ]
    kinds = {license_class(name) for name in tally.licenses}
    warnings = {
        "unknown": "**Some licences are unknown**: nothing is granted by silence. Find out before you pass them on.",
        "non-commercial": "**Some images must not be used commercially.**",
        "no derivatives": "**Some images must not be changed**: crops and resized copies are changes.",
        "share-alike": "**Some images are share-alike**: what is made of them goes under the same licence.",
        "own terms": "**Some licences have terms of their own**: read them.",
    }
    parts = ["## Licences", markdown_table(Table(LICENCES, rows))]
    parts += [text for kind, text in warnings.items() if kind in kinds]
    credits = [
        f"- {escape(text)} ({escape(name)}; {count:,} images)"
        for name, found in sorted(tally.credits.items())
        for text, count in found.most_common()
    ]
    if credits:
        more = len(credits) - NUM_CREDITS + tally.num_credits_left_out
        if more > 0:
            credits = [*credits[:NUM_CREDITS], f"- and {more:,} more, in the rows"]
        parts += ["### Attribution", "\n".join(credits)]
    return "\n\n".join(parts)


def _statistics(tally: Tally) -> str:
    rows = [
        (name, count, count / tally.num_images, tally.words[name] / count)
        for name, count in tally.captions.most_common()
    ]
    per_image = [(number, images) for number, images in sorted(tally.entities_per_image.items())]
    sizes = [
        f"{width} x {height} ({count:,})" for (width, height), count in tally.sides.most_common(NUM_SIZES)
    ]
    concepts = [f"{escape(name)} ({count:,})" for name, count in tally.concepts.most_common(NUM_CONCEPTS)]
    area = tally.area_sum / tally.num_entities if tally.num_entities else 0.0
    parts = [
        "## Statistics",
        markdown_table(Table(CAPTIONS, rows)) if rows else "",
        markdown_table(Table(ENTITIES, per_image)),
        f"Mean area of a box: {area:.1%} of the image. Concepts: {len(tally.concepts):,}; the most frequent: "
        f"{', '.join(concepts) or 'none'}.",
        f"Sizes in pixels, two digits: {', '.join(sizes)}.",
    ]
    return "\n\n".join(part for part in parts if part)


def _models(models: Sequence[ModelRow]) -> str:
    if not models:
        return ""
    rows = [(row.role, row.name, Cell(row.digest[:16], code=True), row.function_version) for row in models]
    return "## Models that wrote it\n\n" + markdown_table(Table(MODELS, rows))


def _filters(facts: CardFacts) -> str:
    rows = [
        (table, reason, count, count / max(1, sum(counts.values())))
        for table, counts in facts.dropped.items()
        for reason, count in counts.items()
    ]
    left_out = {
        "images without a caption or a kept entity": facts.tally.without_entities,
        "images that were taken down": facts.tally.removed,
    }
    left = "".join(
        f"\n\nLeft out of this export: {count:,} {what}." for what, count in left_out.items() if count
    )
    if not rows:
        return ""
    return (
        "## Filters\n\nOver all splits; what was dropped is not exported.\n\n"
        + markdown_table(Table(FILTERS, rows))
        + left
    )


def _independence(facts: CardFacts) -> str:
    writers = {row.digest for row in facts.models}
    lines = []
    if facts.judge_digest:
        apart = (
            "shares none of the digests above"
            if facts.judge_digest not in writers
            else "**is one of the models above, so its scores of these captions mean nothing**"
        )
        lines.append(
            f"- The judge (`{facts.judge_digest[:16]}`) was trained on a split of its own with original alt-texts; it {apart}."
        )
    else:
        lines.append("- No judge was trained beside this data set.")
    lines += _bank_lines(facts.models)
    if facts.split != "judge" and "judge" not in facts.tally.splits:
        lines.append("- No image of the judge's split is in this export.")
    return "## Independence\n\n" + "\n".join(lines)


def _bank_lines(models: Sequence[ModelRow]) -> list[str]:
    """What the pictures of embedded perception's concept bank have in common with the composed scenes."""
    from evaluation.perception.embedded.identity import BANK_OF

    lines = []
    for art, words in BANK_OF.items():
        if not any(f"bank of {words}" in row.name for row in models):
            continue
        overlap = (
            "**the very drawings** that composed scenes are made of: names of training concepts are easier there than "
            "in the wild"
            if art == "twemoji"
            else f"{words}, another art set than the one that composed scenes are made of"
        )
        lines.append(
            f"- Embedded perception named concepts by a bank of {overlap}. Held-out concepts are not in it."
        )
    return lines


def _limits(facts: CardFacts) -> str:
    lines = [
        "- Captions, phrases, descriptions, boxes and masks are written by models and not checked by people.",
        "- Original texts come from strangers: treat them as untrusted, and expect mistakes and bias in them.",
        "- Faces, names and other personal matter were not looked for.",
        *(f"- The format does not hold: {text}." for text in facts.not_held),
    ]
    if facts.table == "training" and facts.split != "train":
        lines.append(f"- This is the split `{facts.split}`: training on it spoils what is measured on it.")
    if facts.table == "benchmark":
        lines.append("- Training on these images spoils the benchmark.")
    return "## Known limits\n\n" + "\n".join(lines)


def _benchmark(findings: Mapping[str, Any]) -> str:
    if not findings:
        return ""
    rows = [(name.replace("_", " "), str(value)) for name, value in findings.items()]
    return "## Leak check\n\n" + markdown_table(Table(FINDINGS, rows))


def _use(facts: CardFacts) -> str:
    versions = "\n".join(f"{name} {digest}" for name, digest in sorted(facts.versions.items()))
    loading = _LOADING.get(facts.format_name, "").format(split=facts.split)
    return (
        f"## Use\n\n```python\n{loading}\n```\n\nCite the sources above and this data set by its digest, "
        f"`{facts.digest[:16]}`. It was made of these versions:\n\n```\n{versions}\n```"
    )
