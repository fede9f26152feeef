"""How good the annotated data are: against the hidden truth where there is one, by agreement, and by the judge.

The truth table is read here to score, and by nothing that makes captions or entities. Figures that cannot be known
(no truth, no judge, one annotator) are empty or left out, never zero.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from assets.graph.interfaces import Store
from assets.pages.measures import MEASURES, measure

if TYPE_CHECKING:
    from evaluation.judge import Embedder

DRAWING_PX = 32
"""Side at which clean drawings are measured: about the size at which scenes show them."""

# What scoring reads: masks, of all columns by far the largest, are not among it.
BOX_COLUMNS = ("sample_id", "annotator", "phrase", "box_xyxy_norm", "model")
ANNOTATION_COLUMNS = ("sample_id", "phrase", "description", "box_xyxy_norm", "keep", "model")
REGION_COLUMNS = (
    "sample_id",
    "region_index",
    "names",
    "box_xyxy_norm",
    "text",
    "background_color",
    "model",
)
IMAGE_TEXT_SPLITS = ("train", "held_out_images", "held_out_concepts")


@dataclass(frozen=True)
class Known:
    """What scoring may know of the concepts: CLDR names of their drawings by look, and which names are held out.

    A look is a concept's name, with its colour behind it where it has several: "dog", "heart/red".
    """

    drawings: Mapping[str, str]
    held_out_names: Collection[str]

    @property
    def names(self) -> frozenset[str]:
        """Names of all concepts."""
        return frozenset(look.partition("/")[0] for look in self.drawings)


def quality_table(
    store: Store,
    known: Known,
    judge_folder: Path | None,
    *,
    published: pa.Table | None = None,
    images_per_split: int = 200,
    resamples: int = 500,
) -> pa.Table:
    """Every figure about the data as rows of :data:`assets.pages.measures.MEASURES`.

    Args:
        store: holds landed_images, regions, recaptions, entity_boxes, entity_annotations and, for
            composed scenes, scene_truth.
        known: the world's concepts.
        judge_folder: model folder of the judge; None leaves the image-text score unknown.
        published: boxes that came with the source, as rows of :data:`assets.graph.schemas.ENTITY_BOXES`; one more annotator.
        images_per_split: images that the judge looks at in each split.
        resamples: bootstrap resamples behind each interval.
    """
    rows = [
        *truth_rows(store, known, resamples),
        *agreement_rows(store, known, resamples, published),
        *image_text_rows(store, judge_folder, images_per_split),
    ]
    return pa.Table.from_pylist(rows, schema=MEASURES)


def truth_rows(store: Store, known: Known, resamples: int = 500) -> list[dict[str, Any]]:
    """Regions, captions, boxes, annotations and attributes against the truth; one empty row where there is none."""
    from evaluation.metrics.attributes import attribute_scores
    from evaluation.metrics.entity_scores import entities_by_annotator, entity_scores
    from evaluation.metrics.perception_scores import perception_scores
    from evaluation.metrics.scene_truth import TRUTH_COLUMNS

    if store.current("scene_truth") is None:
        remark = "no truth table: only composed scenes have one"
        return [measure("against the truth", "all", None, remark=remark)]
    truth, held_out = store.read_table("scene_truth", columns=list(TRUTH_COLUMNS)), known.held_out_names
    regions = store.read_all("regions", REGION_COLUMNS)
    recaptions = store.read_all("recaptions", ["sample_id", "caption", "keep", "model"])
    sample_ids = set(pc.unique(recaptions["sample_id"]).to_pylist())
    scores = perception_scores(regions, truth, recaptions, held_out, resamples=resamples)
    is_caption = pc.starts_with(scores["metric"], "mention")
    rows = _measures(scores.filter(is_caption), "recaptions", _made_by(recaptions))
    rows += _measures(scores.filter(pc.invert(is_caption)), "regions", _made_by(regions))
    for name, boxes in entities_by_annotator(store.read_all("entity_boxes", BOX_COLUMNS)).items():
        scores = entity_scores(boxes, truth, sample_ids, held_out, resamples=resamples)
        rows += _measures(scores, f"entity_boxes of {name}", _made_by(boxes))
    annotations = store.read_all("entity_annotations", ANNOTATION_COLUMNS)
    kept = annotations.filter(annotations["keep"])
    scores = entity_scores(kept, truth, sample_ids, held_out, resamples=resamples)
    rows += _measures(scores, "entity_annotations", _made_by(kept))
    if known.drawings:
        drawn, words = drawn_attributes(known.drawings), attribute_vocabulary()
        scores = attribute_scores(kept, truth, drawn, words, held_out, resamples=resamples)
        rows += _measures(scores, "entity_annotations", f"drawings measured at {DRAWING_PX} pixels")
    return rows


def _made_by(table: pa.Table) -> str:
    """The models that made the rows: their names say, among others, where a concept bank's pictures came from."""
    return "by " + ", ".join(sorted(pc.unique(table["model"]).to_pylist())) if table.num_rows else ""


def _measures(scores: pa.Table, subject: str, remark: str = "") -> list[dict[str, Any]]:
    """Rows of the scored system, with chance and oracle beside."""
    from evaluation.intervals import Interval

    by_key = {(row["metric"], row["group"], row["system"]): row for row in scores.to_pylist()}
    rows = []
    for (metric, group, system), row in by_key.items():
        if system != "perceived":
            continue
        value = None
        if row["value"] is not None:
            value = Interval(row["value"], row["low"], row["high"], count=row["num_images"])
        chance, oracle = (
            by_key.get((metric, group, other), {}).get("value") for other in ("chance", "oracle")
        )
        told = f"{row['about']}; {remark}" if remark else row["about"]
        rows.append(measure(metric, group, value, subject=subject, chance=chance, oracle=oracle, remark=told))
    return rows


def attribute_vocabulary() -> dict[str, tuple[str, ...]]:
    """Kind of attribute -> the words that measurements give."""
    from evaluation.perception.embedded.colors import COLOR_WORDS
    from evaluation.perception.embedded.shape_and_texture import SHAPES, TEXTURES

    return {"color": COLOR_WORDS, "shape": SHAPES, "texture": TEXTURES}


def drawn_attributes(drawings: Mapping[str, str], size_px: int = DRAWING_PX) -> dict[str, dict[str, str]]:
    """Colour, shape and texture of each clean drawing, by the measurements that perception makes.

    Args:
        drawings: look -> CLDR name of its drawing.
        size_px: side at which it is drawn.

    Raises:
        FoundryError: a drawing that does not exist.
    """
    from assets.corpus.art import render
    from evaluation.perception.embedded.colors import main_color
    from evaluation.perception.embedded.shape_and_texture import shape_word, texture_word

    answer = {}
    for name, picture in drawings.items():
        drawing = render(picture, size_px)
        mask = drawing[..., 3] > 64
        answer[name] = {
            "color": main_color(drawing[mask][:, :3]),
            "shape": shape_word(mask),
            "texture": texture_word(drawing[..., :3], mask),
        }
    return answer


def agreement_rows(
    store: Store, known: Known, resamples: int = 500, published: pa.Table | None = None
) -> list[dict[str, Any]]:
    """Agreement of every two annotators of ``entity_boxes``; nothing where one alone is configured."""
    from assets.entities.phrase_concepts import concept_of
    from evaluation.intervals import Interval
    from evaluation.metrics.agreement import annotator_agreement

    boxes = store.read_all("entity_boxes", ["sample_id", "annotator", "phrase", "box_xyxy_norm"])
    if published is not None:
        annotated = pc.is_in(published["sample_id"], value_set=pc.unique(boxes["sample_id"]))
        boxes = pa.concat_tables([boxes, published.filter(annotated).select(boxes.column_names)])
    rows = []
    for pair in annotator_agreement(
        boxes, lambda phrase: concept_of(phrase, known.names), resamples=resamples
    ):
        subject = f"{pair.first} and {pair.second}"
        kappa = None
        if pair.label_kappa is not None:
            kappa = Interval(pair.label_kappa, pair.label_kappa, pair.label_kappa, count=pair.num_matched)
        for name, value, remark in (
            ("agreement_box_f1", pair.box_f1, "boxes that both found, IoU at least 0.5"),
            ("agreement_mean_iou", pair.mean_iou, "mean IoU of the boxes that both found"),
            ("agreement_label", pair.label_agreement, "boxes found by both that both name alike"),
            ("agreement_label_kappa", kappa, "the same beyond chance (Cohen's kappa); no interval"),
        ):
            rows.append(measure(name, "all", value, subject=subject, remark=remark))
    return rows


def image_text_rows(store: Store, judge_folder: Path | None, images_per_split: int) -> list[dict[str, Any]]:
    """The judge's score of alt-texts and of kept generated captions on the same images, and their difference."""
    from assets.models.judging import decoded
    from evaluation.judge import Judge

    if judge_folder is None:
        return [measure("judge_cosine", "all", None, remark="no judge")]
    judge = Judge.load(judge_folder)
    rows: list[dict[str, Any]] = []
    for split in IMAGE_TEXT_SPLITS:
        chosen = captioned_sample(store, split, images_per_split)
        if chosen.num_rows >= 2:
            rows += image_text_scores(judge, decoded(chosen), chosen, split)
    return rows


def captioned_sample(store: Store, split: str, count: int) -> pa.Table:
    """Up to ``count`` samples of a split with a kept generated caption: sample_id, image, alt_text, caption_list.

    Sample ids are digests, so the first ones are a fair draw and the same one every time. Only theirs of the images
    are read.
    """
    recaptions = store.read_all("recaptions", ["sample_id", "caption", "keep"])
    kept = recaptions.filter(recaptions["keep"]).group_by("sample_id").aggregate([("caption", "list")])
    splits = store.read_all("landed_images", ["sample_id", "split"])
    in_split = splits.filter(pc.equal(splits["split"], split))["sample_id"].combine_chunks()
    wanted = kept.filter(pc.is_in(kept["sample_id"], value_set=in_split)).sort_by("sample_id").slice(0, count)
    items = [
        item
        for partition in store.partitions("landed_images")
        for item in store.work_items(
            "landed_images",
            partition,
            "sample_id",
            wanted["sample_id"].to_pylist(),
            ["sample_id", "image", "alt_text"],
            count,
        )
    ]
    if not items:
        return wanted.slice(0, 0)
    images = pa.concat_tables([item.load() for item in items])
    found = images.take(pc.index_in(wanted["sample_id"], value_set=images["sample_id"].combine_chunks()))
    return found.append_column("caption_list", wanted["caption_list"])


def image_text_scores(judge: Embedder, images: Any, captions: pa.Table, split: str) -> list[dict[str, Any]]:
    """Mean cosine of pictures with their alt-texts, with their generated captions, and the paired difference.

    Args:
        judge: shares nothing with what wrote the captions.
        images: uint8 [n, h, w, 3].
        captions: alt_text and caption_list (kept generated captions) of the same n images; a picture counts once,
            with the mean over its captions.
        split: name of the samples' split.
    """
    import numpy as np

    from evaluation.intervals import mean_interval, paired_difference

    pictures = judge.embed_images(images)
    alt_texts = (pictures * judge.embed_texts(captions["alt_text"].to_pylist())).sum(axis=1)
    lists = captions["caption_list"].to_pylist()
    own = np.repeat(np.arange(len(lists)), [len(entry) for entry in lists])
    texts = judge.embed_texts([caption for entry in lists for caption in entry])
    generated = np.bincount(own, (pictures[own] * texts).sum(axis=1)) / np.bincount(own)
    others = np.roll(pictures, 1, axis=0)
    floor = np.bincount(own, (others[own] * texts).sum(axis=1)) / np.bincount(own)
    remark = "mean over images; chance is another image's picture"
    alt_floor = float((others * judge.embed_texts(captions["alt_text"].to_pylist())).sum(axis=1).mean())
    return [
        measure(
            "judge_cosine",
            split,
            mean_interval(alt_texts.astype(np.float64)),
            subject="alt-texts",
            chance=alt_floor,
            remark=remark,
        ),
        measure(
            "judge_cosine",
            split,
            mean_interval(generated.astype(np.float64)),
            subject="recaptions",
            chance=float(floor.mean()),
            remark=remark,
        ),
        measure(
            "judge_cosine_difference",
            split,
            paired_difference(generated.astype(np.float64), alt_texts.astype(np.float64)),
            subject="recaptions less alt-texts",
            chance=0.0,
            remark="same images, paired",
        ),
    ]
