"""All kinds of models, in the order of making: a kind comes after those that its models start from."""

from __future__ import annotations

from assets.backbones.kinds import BACKBONE
from assets.distillation.kinds import DISTILLED, STEP_DISTILLED, TEACHER
from assets.fine_tuning.kinds import FINE_TUNED
from assets.graph.model_kinds import ModelKind
from assets.layout.kinds import LAYOUT_MODEL, SHIPPED_LAYOUT_MODEL
from assets.pruning.kinds import PRUNED, UNIT_SCORES
from assets.writing.kinds import LOCALIZED_LORA, SHIPPED_WRITER, TEXT_LAYERS

MODEL_KINDS: tuple[ModelKind, ...] = (
    TEACHER,
    BACKBONE,
    LAYOUT_MODEL,
    SHIPPED_LAYOUT_MODEL,
    SHIPPED_WRITER,
    STEP_DISTILLED,
    DISTILLED,
    UNIT_SCORES,
    PRUNED,
    FINE_TUNED,
    TEXT_LAYERS,
    LOCALIZED_LORA,
)
