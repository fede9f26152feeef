"""Column lineage covers every column there is, and names none that is not."""

from __future__ import annotations

import pyarrow as pa
import pytest

from assets.captions.statistics import CAPTION_STATISTICS
from assets.graph import schemas
from assets.graph.columns import COLUMN_SOURCES, ColumnSource
from assets.graph.steps import STEPS
from assets.pages.measures import MEASURES
from evaluation.tables import analysis, samples, scaling, scores

SCHEMAS: dict[str, pa.Schema] = {
    "landed_images": schemas.LANDED_IMAGES,
    "quarantine": schemas.QUARANTINE,
    "scene_truth": schemas.SCENE_TRUTH,
    "curated_images": schemas.CURATED_IMAGES,
    "regions": schemas.REGIONS,
    "recaptions": schemas.RECAPTIONS,
    "caption_nouns": schemas.NOUNS,
    "caption_statistics": CAPTION_STATISTICS,
    "entity_phrases": schemas.ENTITY_PHRASES,
    "entity_boxes": schemas.ENTITY_BOXES,
    "entity_annotations": schemas.ENTITY_ANNOTATIONS,
    "entity_masks": schemas.ENTITY_MASKS,
    "layout_benchmark": schemas.LAYOUT_BENCHMARK,
    "text_embeddings": schemas.TEXT_EMBEDDINGS,
    "image_latents": schemas.IMAGE_LATENTS,
    "data_quality": MEASURES,
    "judge_scores": MEASURES,
    "generated_samples": samples.GENERATED_SAMPLES,
    "backbone_analysis": analysis.BACKBONE_ANALYSIS,
    "block_similarities": analysis.BLOCK_SIMILARITIES,
    "denoising_errors": scores.DENOISING_ERRORS,
    "alignment_scores": scores.ALIGNMENT_SCORES,
    "model_observations": scaling.SCALING_OBSERVATIONS,
    "scaling_scores": scaling.SCALING_SCORES,
    "scaling_efficiency": scaling.SCALING_EFFICIENCY,
    "scaling_observations": scaling.SCALING_OBSERVATIONS,
    "evaluation_table": scores.EVALUATION_TABLE,
    "model_scores": scores.MODEL_SCORES,
}
BESIDE_A_STEP = {
    "denoising_errors": "evaluation_table",
    "alignment_scores": "evaluation_table",
    "model_observations": "evaluation_table",
    "scaling_efficiency": "scaling_grid",
    "block_similarities": "backbone_analysis",
}


def test_every_table_is_covered() -> None:
    assert COLUMN_SOURCES.keys() == (SCHEMAS.keys() - {"judge_scores"}) | {"training_shards"}


@pytest.mark.parametrize("table", sorted(SCHEMAS.keys() & COLUMN_SOURCES.keys()))
def test_every_column_is_covered_and_no_other(table: str) -> None:
    assert set(COLUMN_SOURCES[table]) == set(SCHEMAS[table].names)


@pytest.mark.parametrize("table", COLUMN_SOURCES)
def test_every_source_exists_and_is_read_by_the_step(table: str) -> None:
    step = STEPS.get(BESIDE_A_STEP.get(table, table))
    for column, sources in COLUMN_SOURCES[table].items():
        for source in sources:
            assert source.column in COLUMN_SOURCES[source.table], f"{table}.{column} names {source}"
            if step is not None and source.table in STEPS:
                assert source.table in step.reads, f"{step.name} does not read {source.table}"


def origins(table: str, column: str) -> set[ColumnSource]:
    """All columns that a column goes back to and that come from outside, however many steps away."""
    behind = COLUMN_SOURCES[table][column]
    found = {source for source in behind if not COLUMN_SOURCES[source.table][source.column]}
    return found.union(*(origins(source.table, source.column) for source in behind))


def test_a_training_caption_goes_back_to_picture_and_alt_text() -> None:
    found = origins("training_shards", "captions")
    assert {ColumnSource("landed_images", "image"), ColumnSource("landed_images", "alt_text")} <= found
    assert all(source.table == "landed_images" for source in found)


@pytest.mark.parametrize("name", schemas.TABLE_KEYS)
def test_declared_keys_are_columns(name: str) -> None:
    if name in SCHEMAS:
        assert set(schemas.table_keys(name)) <= set(SCHEMAS[name].names)


def test_tables_of_units_have_a_key_and_unknown_tables_none() -> None:
    assert set(schemas.table_keys("regions_units")) <= set(schemas.UNITS.names)
    assert schemas.table_keys("strange") == ()
