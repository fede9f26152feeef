"""The steps of the graph as data: what each reads, how it is partitioned, and the version of its function.

Dagster's dependencies, the provenance written beside every result and the staleness shown on a page all
derive from this one table, so they cannot drift apart. Raise ``function_version`` when a step's results
change; a refactor leaves it alone and recomputes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Step:
    """One asset. ``reads`` names the steps whose newest versions go into its provenance.

    ``after`` names steps that come earlier but whose digest says nothing about this one's input: the scene builder
    lands shards, and it is the shards of its own group that ``landed_images`` reads. ``parents`` are those of ``reads``
    that hold what a recipe names: its parent among the models, its scores. Of them only the named versions are read.
    ``partitioned_by``: ``groups`` of shards, points of the ``grid``, or the kind of model, by its asset, whose recipes are
    the partitions.
    """

    name: str
    group: str
    function_version: int
    reads: tuple[str, ...] = ()
    partitioned_by: str | None = None
    kinds: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    parents: tuple[str, ...] = ()


_MODELS = ("backbone", "teacher_backbone", "step_distilled_backbone", "distilled_backbone")
"""What holds models that can be cut."""
_TUNED = ("backbone", "teacher_backbone", "distilled_backbone", "pruned_backbone")
"""What holds models that can be trained on; few-step ones cannot."""
SWEPT_MODELS = (*_MODELS, "pruned_backbone", "fine_tuned_backbone", "shipped_writer")
"""What holds models whose layers that write may be looked for."""
SCORED_MODELS = (*_MODELS, "pruned_backbone", "fine_tuned_backbone", "localized_lora")
"""What holds models that draw."""
LAYOUT_MODELS = ("shipped_layout_model", "layout_model")
"""What holds models that are told where things stand."""
TEXT_MODELS = (*SCORED_MODELS, "shipped_writer")
"""What holds models whose prompts may ask for text."""
_WRITERS = (*_TUNED, "shipped_writer")
"""What holds models that adapters may sit on."""
_KNOWN = ("landed_images", "entity_annotations")
_TRAINED = ("ray", "pytorch", "huggingface")

_ALL = (
    Step("demo_scenes", "corpus", 2, kinds=("python", "parquet")),
    Step("landed_images", "corpus", 1, (), "groups", ("parquet",), after=("demo_scenes",)),
    Step("curated_images", "corpus", 1, ("landed_images",), "groups", ("parquet",)),
    Step(
        "regions",
        "captions",
        1,
        ("landed_images", "curated_images"),
        "groups",
        ("ray", "pytorch", "parquet"),
    ),
    Step(
        "recaptions",
        "captions",
        2,
        ("landed_images", "curated_images", "regions"),
        "groups",
        ("ray", "pytorch", "parquet"),
    ),
    Step(
        "caption_nouns",
        "captions",
        1,
        ("landed_images", "curated_images", "recaptions"),
        "groups",
        ("parquet",),
    ),
    Step(
        "caption_statistics",
        "captions",
        2,
        ("landed_images", "recaptions", "caption_nouns"),
        None,
        ("parquet",),
    ),
    Step("entity_phrases", "entities", 1, ("landed_images", "recaptions"), "groups", ("parquet",)),
    Step(
        "entity_boxes",
        "entities",
        1,
        ("landed_images", "curated_images", "regions", "entity_phrases"),
        "groups",
        ("ray", "pytorch", "parquet"),
    ),
    Step(
        "entity_annotations",
        "entities",
        2,
        ("landed_images", "regions", "entity_boxes"),
        "groups",
        ("ray", "pytorch", "parquet"),
    ),
    Step(
        "entity_masks",
        "entities",
        1,
        ("landed_images", "regions", "entity_annotations"),
        "groups",
        ("ray", "pytorch", "parquet"),
    ),
    Step(
        "layout_benchmark",
        "entities",
        1,
        ("landed_images", "curated_images", "recaptions", "entity_annotations"),
        None,
        ("parquet",),
    ),
    Step(
        "annotation_pages",
        "entities",
        1,
        ("landed_images", "recaptions", "entity_annotations"),
        None,
        ("html",),
    ),
    Step(
        "text_embeddings",
        "encodings",
        2,
        ("landed_images", "curated_images", "recaptions"),
        "groups",
        ("pytorch", "huggingface", "parquet"),
    ),
    Step("autoencoder", "encodings", 1, kinds=("pytorch", "huggingface")),
    Step(
        "image_latents",
        "encodings",
        3,
        ("landed_images", "curated_images", "autoencoder"),
        "groups",
        ("pytorch", "parquet"),
    ),
    Step(
        "training_shards",
        "encodings",
        3,
        (
            "landed_images",
            "curated_images",
            "recaptions",
            "caption_nouns",
            "text_embeddings",
            "image_latents",
            "caption_statistics",
            "layout_benchmark",
        ),
        None,
        ("numpy",),
    ),
    Step(
        "layout_shards", "encodings", 1, ("training_shards", "entity_annotations"), None, ("pytorch", "numpy")
    ),
    Step("judge_clip", "models", 1, ("landed_images", "curated_images"), None, ("ray", "pytorch")),
    Step("backbone", "models", 1, ("training_shards", "autoencoder"), "backbone", _TRAINED),
    Step(
        "generated_samples", "models", 1, ("backbone", "training_shards"), "backbone", ("pytorch", "parquet")
    ),
    Step("teacher_backbone", "models", 1, ("autoencoder",), "teacher_backbone", ("pytorch", "huggingface")),
    Step(
        "step_distilled_backbone",
        "models",
        1,
        ("backbone", "teacher_backbone", "training_shards", "autoencoder", "judge_clip"),
        "step_distilled_backbone",
        _TRAINED,
        parents=("backbone", "teacher_backbone"),
    ),
    Step(
        "distilled_backbone",
        "models",
        1,
        (
            "backbone",
            "teacher_backbone",
            "step_distilled_backbone",
            "training_shards",
            "autoencoder",
            "judge_clip",
        ),
        "distilled_backbone",
        _TRAINED,
        parents=("backbone", "teacher_backbone", "step_distilled_backbone"),
    ),
    Step(
        "unit_scores",
        "models",
        1,
        (*_MODELS, "training_shards"),
        "unit_scores",
        ("ray", "pytorch"),
        parents=_MODELS,
    ),
    Step(
        "pruned_backbone",
        "models",
        1,
        ("unit_scores", *_MODELS, "training_shards", "judge_clip"),
        "pruned_backbone",
        ("pytorch", "huggingface"),
        parents=("unit_scores", *_MODELS),
    ),
    Step(
        "fine_tuned_backbone",
        "models",
        1,
        (*_TUNED, "training_shards", "autoencoder", "judge_clip"),
        "fine_tuned_backbone",
        _TRAINED,
        parents=_TUNED,
    ),
    Step(
        "shipped_layout_model",
        "models",
        1,
        ("teacher_backbone", "training_shards", "layout_shards", "autoencoder"),
        "shipped_layout_model",
        ("pytorch", "huggingface"),
        parents=("teacher_backbone",),
    ),
    Step(
        "layout_model",
        "models",
        2,
        ("backbone", "teacher_backbone", "training_shards", "layout_shards", "autoencoder"),
        "layout_model",
        _TRAINED,
        parents=("backbone", "teacher_backbone"),
    ),
    Step("shipped_writer", "models", 1, ("autoencoder",), "shipped_writer", ("pytorch", "huggingface")),
    Step(
        "text_layer_localization",
        "models",
        1,
        SWEPT_MODELS,
        "text_layer_localization",
        ("pytorch", "parquet"),
        parents=SWEPT_MODELS,
    ),
    Step(
        "text_edit_evaluation",
        "models",
        1,
        ("text_layer_localization", "judge_clip"),
        "text_layer_localization",
        ("pytorch", "parquet"),
    ),
    Step(
        "text_guard_evaluation",
        "models",
        1,
        ("text_layer_localization",),
        "text_layer_localization",
        ("pytorch", "parquet"),
    ),
    Step(
        "localized_lora",
        "models",
        1,
        (
            *_WRITERS,
            "text_layer_localization",
            "training_shards",
            "autoencoder",
            "judge_clip",
            "landed_images",
        ),
        "localized_lora",
        _TRAINED,
        parents=(*_WRITERS, "text_layer_localization"),
    ),
    Step("localized_lora_comparison", "models", 1, ("localized_lora",), None, ("parquet",)),
    Step("layout_evaluation", "models", 1, (*LAYOUT_MODELS, *_KNOWN), None, ("parquet",)),
    Step(
        "pruning_comparison",
        "models",
        1,
        ("pruned_backbone", "unit_scores", "fine_tuned_backbone"),
        None,
        ("parquet",),
    ),
    Step("distillation_study", "models", 2, ("distilled_backbone",), None, ("parquet",)),
    Step("scaling_run", "scaling", 1, ("training_shards", "autoencoder"), "grid", _TRAINED),
    Step(
        "scaling_scores",
        "scaling",
        1,
        ("scaling_run", "training_shards", "judge_clip", "caption_nouns"),
        "grid",
        ("ray", "pytorch", "parquet"),
    ),
    Step("scaling_grid", "scaling", 1, ("scaling_scores",), None, ("html",)),
    Step(
        "backbone_analysis", "models", 1, ("backbone", "training_shards"), "backbone", ("pytorch", "parquet")
    ),
    Step(
        "evaluation_table",
        "reports",
        2,
        ("backbone", "generated_samples", "judge_clip", "training_shards", "landed_images"),
        None,
        ("pytorch", "parquet"),
    ),
    Step(
        "data_quality",
        "reports",
        1,
        (
            "landed_images",
            "regions",
            "recaptions",
            "entity_boxes",
            "entity_annotations",
            "judge_clip",
        ),
        None,
        ("pytorch", "parquet"),
    ),
    Step(
        "model_scores",
        "evaluation",
        1,
        (
            *SCORED_MODELS,
            *LAYOUT_MODELS,
            "shipped_writer",
            "text_layer_localization",
            "generated_samples",
            "evaluation_table",
            "scaling_scores",
            "judge_clip",
            "training_shards",
            "landed_images",
        ),
        None,
        ("pytorch", "parquet"),
    ),
    Step("scaling_observations", "scaling", 1, ("evaluation_table", "scaling_scores"), None, ("parquet",)),
    Step("scaling_laws", "reports", 1, ("scaling_observations",), None, ("numpy", "parquet")),
    Step(
        "report",
        "reports",
        2,
        (
            "scaling_laws",
            "scaling_grid",
            "evaluation_table",
            "data_quality",
            "generated_samples",
            "teacher_backbone",
            "step_distilled_backbone",
            "distilled_backbone",
            "distillation_study",
            "pruning_comparison",
            "layout_evaluation",
            "text_layer_localization",
            "text_edit_evaluation",
            "text_guard_evaluation",
            "localized_lora_comparison",
            "caption_statistics",
            "entity_annotations",
            "layout_benchmark",
        ),
        None,
        ("html",),
    ),
)

STEPS: Mapping[str, Step] = {step.name: step for step in _ALL}
