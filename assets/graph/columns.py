"""From which columns each column of a table is made: column lineage as plain data, shown on asset pages.

Only columns of the graph are named. What a model, a setting or a landed file puts into a column has no column of its
own: such columns have no source here, and their provenance (:mod:`assets.graph.lineage`) says where they come from.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple


class ColumnSource(NamedTuple):
    """A column of an upstream table."""

    table: str
    column: str


Sources = tuple[str, ...]
"""Columns as ``table.column``."""

_IMAGE = ("landed_images.image",)
_SEEN = (
    *_IMAGE,
    "regions.box_xyxy_norm",
    "regions.color",
    "regions.second_color",
    "regions.shape",
    "regions.texture",
    "regions.names",
    "regions.name_scores",
    "regions.text",
    "regions.background_kind",
    "regions.background_color",
)
"""What a perception model may look at: the picture, or the regions that embedded perception measured in it."""
_CAPTION = ("landed_images.alt_text", "recaptions.caption", "recaptions.keep")
_TRAINING_CAPTION = ("training_shards.captions",)
_BOX = ("entity_boxes.box_xyxy_norm",)
_FILTERED = ("entity_boxes.score", "entity_boxes.name_score", "entity_boxes.box_xyxy_norm")
_DRAWN = (
    "generated_samples.image",
    "generated_samples.prompt",
    "landed_images.image",
    "landed_images.alt_text",
)
_SCORED = ("denoising_errors.squared_error",)
_NOTHING: Sources = ()


def _each(columns: str, sources: Sources) -> dict[str, Sources]:
    """The same sources for several columns, named with spaces between."""
    return dict.fromkeys(columns.split(), sources)


_MADE_BY = _each("model model_digest function_version", _NOTHING)

_OBSERVED = _each(
    "family recipe metric parameters images_seen training_gflops seed macs mix filter data_images concepts "
    "wall_seconds hardware profile",
    _NOTHING,
)

_TABLES: Mapping[str, Mapping[str, Sources]] = {
    "landed_images": _each(
        "sample_id image_id source shard key split image width height alt_text license attribution", _NOTHING
    ),
    "quarantine": _each("source shard position key reason detail", _NOTHING),
    "scene_truth": _each(
        "sample_id source key split objects visible_masks_rle mask_size word word_box_xyxy_norm background",
        _NOTHING,
    ),
    "curated_images": {
        "sample_id": ("landed_images.sample_id",),
        "image_id": ("landed_images.image_id",),
        "split": ("landed_images.split",),
        **_each("perceptual_hash thumbnail", _IMAGE),
        **_each(
            "keep dropped_because",
            (*_IMAGE, "landed_images.width", "landed_images.height", "landed_images.split"),
        ),
    },
    "regions": {
        "sample_id": ("curated_images.sample_id", "curated_images.keep", "curated_images.split"),
        **_each(
            "region_index box_xyxy_norm area_fraction color second_color shape texture mask_rle mask_size names "
            "name_scores name_source text text_score background_kind background_color",
            _IMAGE,
        ),
        **_MADE_BY,
    },
    "recaptions": {
        "sample_id": ("curated_images.sample_id", "curated_images.keep", "curated_images.split"),
        **_each("caption_index caption score num_tokens num_words keep dropped_because", _SEEN),
        **_each("prompt decoding seed", _NOTHING),
        **_MADE_BY,
    },
    "caption_nouns": {**_each("text_id text nouns num_words", _CAPTION), **_MADE_BY},
    "caption_statistics": {
        "captions": _NOTHING,
        **_each("num_images num_captions", (*_CAPTION, "landed_images.sample_id")),
        **_each("words_per_caption words_histogram", ("caption_nouns.num_words",)),
        **_each(
            "image_noun_pairs nouns_per_image unique_nouns growth_captions growth_unique_nouns",
            ("caption_nouns.nouns",),
        ),
        **_each("near_duplicate_share largest_cluster largest_cluster_example", _CAPTION),
    },
    "entity_phrases": {
        "sample_id": ("recaptions.sample_id", "landed_images.sample_id"),
        **_each("phrase_index phrase head start end caption keep dropped_because", _CAPTION),
        **_MADE_BY,
    },
    "entity_boxes": {
        "sample_id": ("entity_phrases.sample_id",),
        "phrase_index": ("entity_phrases.phrase_index",),
        "phrase": ("entity_phrases.phrase", "regions.names"),
        **_each(
            "box_index box_xyxy_norm score name_score",
            (*_SEEN, "entity_phrases.phrase", "entity_phrases.keep"),
        ),
        "annotator": _NOTHING,
        **_MADE_BY,
    },
    "entity_annotations": {
        "sample_id": ("entity_boxes.sample_id",),
        "entity_id": ("entity_boxes.sample_id", "entity_boxes.annotator", "entity_boxes.phrase", *_BOX),
        "annotator": ("entity_boxes.annotator",),
        "phrase": ("entity_boxes.phrase",),
        "box_xyxy_norm": _BOX,
        "area_fraction": _BOX,
        "detector_score": ("entity_boxes.score",),
        "score": ("entity_boxes.name_score",),
        **_each("entity_index overlap_iou keep dropped_because", _FILTERED),
        **_each("description description_score", (*_SEEN, "entity_boxes.phrase", *_BOX)),
        **_each("description_model description_digest", _NOTHING),
        **{name: (f"entity_boxes.{name}",) for name in _MADE_BY},
    },
    "entity_masks": {
        "sample_id": ("entity_annotations.sample_id",),
        "entity_id": ("entity_annotations.entity_id", "entity_annotations.keep"),
        **_each(
            "mask_rle mask_size score", (*_IMAGE, "regions.mask_rle", "entity_annotations.box_xyxy_norm")
        ),
        **_MADE_BY,
    },
    "layout_benchmark": {
        "sample_id": ("entity_annotations.sample_id", "curated_images.split", "entity_annotations.keep"),
        "global_caption": _CAPTION,
        "entity_index": ("entity_annotations.entity_index",),
        "phrase": ("entity_annotations.phrase",),
        "description": ("entity_annotations.description",),
        "box_xyxy_norm": ("entity_annotations.box_xyxy_norm",),
        "spatial": ("entity_annotations.box_xyxy_norm",),
        **_each("color texture shape", ("entity_annotations.description",)),
        "is_held_out_concept": ("entity_annotations.phrase", "curated_images.split", *_CAPTION),
    },
    "text_embeddings": {
        **_each("text_id text num_tokens states pooled", _CAPTION),
        **_MADE_BY,
    },
    "image_latents": {
        "sample_id": ("curated_images.sample_id", "curated_images.keep", "curated_images.split"),
        **_each("resolution height width latent reconstruction_error", _IMAGE),
        **_MADE_BY,
    },
    "training_shards": {
        "sample_id": ("curated_images.sample_id", "curated_images.keep"),
        "split": ("curated_images.split",),
        "captions": _CAPTION,
        "curated": ("curated_images.keep",),
        "concept_rank": ("caption_nouns.nouns", *_CAPTION),
        "latents": ("image_latents.latent",),
        "text_states": ("text_embeddings.states",),
        "pooled": ("text_embeddings.pooled",),
    },
    "generated_samples": {
        "sample_id": ("training_shards.sample_id",),
        "split": ("training_shards.split",),
        **_each("prompt_id prompt", _TRAINING_CAPTION),
        "image": (*_TRAINING_CAPTION, "training_shards.latents", "training_shards.text_states"),
        **_each("recipe seed num_steps guidance model_digest function_version", _NOTHING),
    },
    "backbone_analysis": _each(
        "recipe stage_index stage kind parameters macs attention_product_macs milliseconds latent timed_runs "
        "model_digest function_version",
        _NOTHING,
    ),
    "block_similarities": {
        **_each("cosine cka", ("training_shards.latents", "training_shards.text_states")),
        **_each(
            "recipe noise_level block_index block model_digest dataset_digest function_version", _NOTHING
        ),
    },
    "denoising_errors": {
        "sample_id": ("training_shards.sample_id",),
        "split": ("training_shards.split",),
        "squared_error": ("training_shards.latents", "training_shards.text_states"),
        **_each("recipe level_index sigma model_digest dataset_digest function_version", _NOTHING),
    },
    "alignment_scores": {
        **{name: (f"generated_samples.{name}",) for name in ("recipe", "prompt_id", "split", "seed")},
        **_each("cosine shuffled_cosine top1_of_k", _DRAWN),
        **_each("judge_digest function_version", _NOTHING),
    },
    "model_observations": {
        **_OBSERVED,
        **_each("value standard_error", (*_SCORED, "alignment_scores.cosine")),
        "image_noun_pairs": _NOTHING,
    },
    "scaling_scores": {
        **_each(
            "recipe size data mix seed metric images_seen family backbone parameters macs training_gflops filter "
            "concepts wall_seconds hardware profile model_digest function_version",
            _NOTHING,
        ),
        **_each(
            "value standard_error by_sample",
            ("training_shards.latents", "training_shards.text_states", *_TRAINING_CAPTION),
        ),
        "data_images": ("training_shards.sample_id", "training_shards.split", "training_shards.curated"),
        "image_noun_pairs": ("caption_nouns.nouns", *_TRAINING_CAPTION),
    },
    "scaling_efficiency": {
        **{name: (f"scaling_scores.{name}",) for name in ("size", "data", "mix", "metric")},
        **_each(
            "target seeds reached images images_low images_high gflops at_most outcome",
            ("scaling_scores.value", "scaling_scores.images_seen"),
        ),
    },
    "scaling_observations": {
        **_OBSERVED,
        **_each("value standard_error", ("model_observations.value", "scaling_scores.value")),
        "image_noun_pairs": ("scaling_scores.image_noun_pairs",),
    },
    "data_quality": {
        **_each("measure subject split remark", _NOTHING),
        **_each(
            "value low high num_items chance oracle",
            (
                "scene_truth.objects",
                "recaptions.caption",
                "recaptions.keep",
                "regions.names",
                "entity_boxes.box_xyxy_norm",
                "entity_annotations.box_xyxy_norm",
                "entity_annotations.phrase",
                "entity_annotations.description",
                "entity_annotations.keep",
                "landed_images.alt_text",
                *_IMAGE,
            ),
        ),
    },
    "model_scores": {
        **_each("kind recipe metric unit scale better model_digest protocol_digest protocol", _NOTHING),
        "split": ("denoising_errors.split", "training_shards.split"),
        "n": ("training_shards.sample_id",),
        **_each(
            "value low high by_unit",
            (*_SCORED, *_DRAWN, "training_shards.latents", "scaling_scores.by_sample"),
        ),
    },
    "evaluation_table": {
        **_each("recipe family backbone parameters images_seen seed training_seconds model_digest", _NOTHING),
        "split": ("denoising_errors.split", "alignment_scores.split"),
        **_each("denoising_error denoising_error_low denoising_error_high", _SCORED),
        **_each(
            "judge_cosine judge_cosine_low judge_cosine_high judge_ceiling", ("alignment_scores.cosine",)
        ),
        "judge_floor": ("alignment_scores.shuffled_cosine",),
        "judge_top1_of_k": ("alignment_scores.top1_of_k",),
        **_each("kid_efflite0 kid_efflite0_standard_error", ("generated_samples.image", *_IMAGE)),
        "num_generated": ("generated_samples.image",),
    },
}

COLUMN_SOURCES: Mapping[str, Mapping[str, tuple[ColumnSource, ...]]] = {
    table: {
        column: tuple(ColumnSource(*source.split(".")) for source in sources)
        for column, sources in columns.items()
    }
    for table, columns in _TABLES.items()
}
"""By table and column, the columns that it is made from; empty where it comes from outside or from a model alone."""
