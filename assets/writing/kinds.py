"""Models that write and ship, as a kind of model."""

from __future__ import annotations

from assets.graph.model_kinds import ModelAsset, ModelCheck, ModelKind
from assets.models.phases import STUDENTS
from assets.writing.configs import ShippedWriterConfig, TextLayerLocalizationConfig
from assets.writing.definitions import READ_BY, shipped_writer, text_layer_localization
from assets.writing.shipped import load_shipped_writers

SHIPPED_WRITER = ModelKind(
    ModelAsset(
        shipped_writer,
        ShippedWriterConfig,
        (
            ModelCheck(
                "reloads",
                "The files are those that shipped, and answer a fixed input as they did when they were packed.",
            ),
        ),
    ),
    source="writers",
    load=load_shipped_writers,
    job="publish_writer",
    job_about="Publish a model that writes and ships with the project, and find the layers that write.",
    stage="writing",
    phases=(STUDENTS,),
    holds_images=False,
    companions=(ModelAsset(text_layer_localization, TextLayerLocalizationConfig, looks_by=READ_BY),),
)
