"""Sections of the report: what every system shows of its tables, whatever strangers wrote, and what is missing."""

from __future__ import annotations

import io
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from assets.graph.interfaces import Landing, Models
from assets.graph.versions import Provenance
from assets.models.comparison import SCORES
from assets.models.drawing import PICTURES
from assets.pages.html import render_page
from assets.pages.measures import MEASURES
from assets.pages.sections import Sources
from assets.reports.sections import REPORT_FILE, SECTIONS, build_report, report_page
from evaluation.tables.localization import (
    LOCALIZED_LORA_COMPARISON,
    LOCALIZED_LORA_SCORES,
    TEXT_LAYER_SCORES,
    TEXT_WAY_SCORES,
)
from evaluation.tables.samples import GENERATED_SAMPLES
from evaluation.tables.scores import (
    ALIGNMENT_SCORES,
    DENOISING_ERRORS,
    DISTILLATION_STUDY,
    EVALUATION_TABLE,
    FEW_STEP_SCORES,
    LAYOUT_EVALUATION,
    PRUNING_COMPARISON,
    SMALLER_MODEL_SCORES,
)
from orchestration.resources.store import ManifestStore

MADE = Provenance("test", 1)
HOSTILE = '"><script>alert(1)</script> | `x` \n {{ 7*7 }}'


@pytest.fixture
def sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Sources:
    """An empty workspace of a profile without a grid. Exact claims, which take a while to count, are left alone."""
    monkeypatch.setattr("evaluation.claims.exact.exact_measurements", dict)
    models = SimpleNamespace(profile="smoke", runs=tmp_path / "runs", grid=None)
    landing = SimpleNamespace(source="pets")
    return Sources(ManifestStore(tmp_path / "store"), cast(Landing, landing), cast(Models, models))


def _row(schema: pa.Schema, text: str, **values: Any) -> dict[str, Any]:
    """A row of a schema: ``text`` in every string, a half in every figure, -1 to 1 about it, nothing in lists and pictures."""
    filled: dict[str, Any] = {}
    for field in schema:
        if pa.types.is_string(field.type):
            filled[field.name] = text
        elif pa.types.is_boolean(field.type):
            filled[field.name] = True
        elif pa.types.is_integer(field.type):
            filled[field.name] = 1
        elif pa.types.is_floating(field.type):
            filled[field.name] = (
                -1.0 if field.name.endswith("low") else 1.0 if field.name.endswith("high") else 0.5
            )
        else:
            filled[field.name] = [] if pa.types.is_list(field.type) else None
    return {**filled, **values}


def _put(
    sources: Sources, name: str, schema: pa.Schema, rows: list[dict[str, Any]], key: str | None = None
) -> None:
    sources.store.write_table(name, pa.Table.from_pylist(rows, schema=schema), MADE, key)


def _png() -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.zeros((4, 4, 3), dtype=np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def _fill(sources: Sources, text: str, folder: Path) -> None:
    """Scores of models made from others and measures, in which every free text is ``text``."""
    student = {"judge_cosine_low": 0.1, "judge_cosine_high": 0.3, "above_teacher": 0.0457}
    teacher = {"above_teacher": None, "above_teacher_low": None, "above_teacher_high": None}
    few = [_row(FEW_STEP_SCORES, text, **values) for values in (student, teacher)]
    _put(sources, "few_step_scores", FEW_STEP_SCORES, few, "fast")
    whole = dict.fromkeys(("relative", "relative_low", "relative_high", "ssim"))
    smaller = [
        _row(SMALLER_MODEL_SCORES, text, model="parent", parameters=987_654, **whole),
        _row(SMALLER_MODEL_SCORES, text, model="child", relative=-0.0789, sheet=_png()),
    ]
    _put(sources, SCORES, SMALLER_MODEL_SCORES, smaller, "small")
    study = [
        _row(DISTILLATION_STUDY, text, what="contrast", num_seeds=6, value=0.0321, low=0.01, high=0.05),
        _row(DISTILLATION_STUDY, text, what="contrast", num_seeds=1, value=None, low=None, high=None),
        _row(DISTILLATION_STUDY, "never made", what="contrast", num_seeds=0, value=None, low=None, high=None),
    ]
    _put(sources, "distillation_study", DISTILLATION_STUDY, study)
    pruned = [
        _row(PRUNING_COMPARISON, text, parameters_left=0.8123, relative=-0.0456),
        _row(PRUNING_COMPARISON, text, sparsity=None),
    ]
    _put(sources, "pruning_comparison", PRUNING_COMPARISON, pruned)
    layouts = [
        _row(LAYOUT_EVALUATION, text, what="model", metric="objects_in_box", value=0.5912),
        _row(LAYOUT_EVALUATION, text, what="contrast", metric="objects_in_box", value=0.0234),
    ]
    _put(sources, "layout_evaluation", LAYOUT_EVALUATION, layouts)
    _fill_writing(sources, text)
    measured = [
        _row(MEASURES, text, num_items=77),
        _row(MEASURES, text, **dict.fromkeys(("value", "low", "high", "num_items", "chance", "oracle"))),
        _row(MEASURES, "by number", split="2 objects"),
    ]
    _put(sources, "data_quality", MEASURES, measured)
    _put(sources, "judge_scores", MEASURES, measured[:1])
    score = {"value": 0.7123, "low": 0.6, "high": 0.8, "chance": 0.125}
    tops = {name: {"judge_top1_of_8": {"value": 0.9}} for name in ("real", "reconstructed")}
    scores = {
        "teacher": {"judge_top1_of_8": score},
        "ceilings": tops,
        "verdict": {"judge_top1_of_8": text},
    }
    folder.mkdir()
    (folder / "scores.json").write_text(json.dumps(scores))
    sources.store.publish_folder("teacher_backbone", folder, MADE, "teacher-unet")


def _fill_writing(sources: Sources, text: str) -> None:
    """A sweep, an edit, a guard and two adapters held together."""
    swept = {
        "what": "layer",
        "name": "0",
        "chosen": True,
        "layers": ["0"],
        "to_target": 0.8123,
        "share": 0.0187,
    }
    whole = {"what": "reference", "name": "all layers", "chosen": False, "to_target": 0.85}
    sweep = [_row(TEXT_LAYER_SCORES, text, **values) for values in (swept, whole)]
    _put(sources, "text_layer_localization", TEXT_LAYER_SCORES, sweep, "writer")
    ways = ("source", "patched from 0%", "attention maps until 80%", "negative prompt")
    for name in ("text_edit_evaluation", "text_guard_evaluation"):
        rows = [_row(TEXT_WAY_SCORES, text, way=way, to_target_minus_first=-0.4) for way in ways]
        _put(sources, name, TEXT_WAY_SCORES, rows, "writer")
    scores = [
        _row(LOCALIZED_LORA_SCORES, text, what=what, metric="written_f1", trainable_parameters=24_576)
        for what in ("parent", "adapted")
    ]
    _put(sources, "localized_lora_scores", LOCALIZED_LORA_SCORES, scores, "lora")
    contrast = _row(
        LOCALIZED_LORA_COMPARISON,
        text,
        targets="linear",
        other_targets="located",
        metric="written_f1",
        value=0.0678,
    )
    _put(sources, "localized_lora_comparison", LOCALIZED_LORA_COMPARISON, [contrast])


def _evaluate(sources: Sources, recipes: tuple[str, ...], prompt: str) -> None:
    """Two evaluated models that drew one prompt each."""
    rows = [
        _row(EVALUATION_TABLE, name, split="held_out", seed=0, parameters=120_000 + place)
        for place, name in enumerate(recipes)
    ]
    _put(sources, "evaluation_table", EVALUATION_TABLE, rows)
    errors = [_row(DENOISING_ERRORS, name, squared_error=0.51234) for name in recipes]
    _put(sources, "denoising_errors", DENOISING_ERRORS, errors)
    _put(sources, "alignment_scores", ALIGNMENT_SCORES, [_row(ALIGNMENT_SCORES, name) for name in recipes])
    about = {"sample_id": "a", "split": "held_out_images", "image": _png()}
    for name in recipes:
        drawn = _row(GENERATED_SAMPLES, prompt, recipe=name, **about)
        _put(sources, "generated_samples", GENERATED_SAMPLES, [drawn], name)
        sources.store.write_table("backbone", pa.table({"a": [name]}), MADE, name)
    landed = pa.table({"sample_id": ["a"], "image": [_png()], "attribution": [prompt]})
    sources.store.write_table("landed_images", landed, MADE, "g0")


def _two_teachers(sources: Sources, prompt: str) -> None:
    """Pictures of two shipped models, one of which drew one more."""
    folder = sources.store.local_folder("teacher_backbone", "teacher-unet")
    sources.store.publish_folder("teacher_backbone", folder, MADE, "teacher-mmdit")
    rows = [
        _row(GENERATED_SAMPLES, prompt, sample_id=key, split="held_out_images", image=_png())
        for key in ("a", "not drawn by the other")
    ]
    _put(sources, PICTURES, GENERATED_SAMPLES, rows, "teacher_backbone.teacher-unet")
    _put(sources, PICTURES, GENERATED_SAMPLES, rows[:1], "teacher_backbone.teacher-mmdit")


def test_an_empty_workspace_says_what_is_missing(sources: Sources, tmp_path: Path) -> None:
    sections = {build.__name__: build(sources) for build in SECTIONS}
    for name in (
        "models_section",
        "samples_section",
        "captions_section",
        "judge_section",
        "autoencoder_section",
    ):
        section = sections[name]
        assert section is not None
        assert section.is_empty
        assert "Materialize" in section.missing
    optional = (
        "opening",
        "learned",
        "teachers",
        "few_steps",
        "smaller",
        "study",
        "pruned",
        "layouts",
        "writing",
    )
    assert [name for name, section in sections.items() if section is None] == [
        f"{name}_section" for name in optional
    ]
    page = build_report(tmp_path / "report", sources).read_text(encoding="utf-8")
    assert (tmp_path / "report" / REPORT_FILE).exists()
    assert page.count("Nothing here yet. Materialize evaluation_table.") == 3
    assert "Twemoji" in page
    assert "not run" in page
    assert "none yet" in page


def test_every_system_shows_its_figures(sources: Sources, tmp_path: Path) -> None:
    _fill(sources, "red apple", tmp_path / "teacher")
    _evaluate(sources, ("big", "small"), "a blue cat")
    _two_teachers(sources, "a green frog")
    (tmp_path / "ledger.json").write_text('{"judge": 31.5}')
    page = report_page(sources)
    assert len({section.anchor for section in page.sections}) == len(SECTIONS)
    assert page.sections[0].anchor == "opening"
    assert [column.title for column in page.sections[0].tables[0].columns][2:] == [
        "teacher-mmdit",
        "teacher-unet",
    ]
    assert len(page.sections[0].tables[0].rows) == 1
    text = render_page(page)
    for expected in (
        "0.5123",
        "120,000",
        "31.5",
        "77",
        "0.046",  # a student above its teacher
        "0.712",  # a teacher's score
        "987,654",
        "0.812",  # parameters that pruning leaves
        "-0.046",  # a pruned model below the whole one
        "by threshold",
        "0.032",  # a contrast of the study
        "-0.079",  # a smaller model below its parent
        "0.591",  # a layout model's objects in their box
        "0.023",  # more of them than another's
        "1.87%",  # keys and values of the layers that write
        "attention maps until 80%",
        "24,576",  # parameters of adapters
        "located minus all layers: -0.068",  # a claim, from the other side of the contrast
        "F1 to the toxic word",
        "a blue cat",
        "picture by big",
    ):
        assert expected in text
    assert "never made" not in text
    assert "by number" not in text  # it is drawn


def test_hostile_captions_and_recipes_are_escaped(sources: Sources, tmp_path: Path) -> None:
    _fill(sources, HOSTILE, tmp_path / "teacher")
    _evaluate(sources, ("big",), HOSTILE)
    text = render_page(report_page(sources))
    assert "<script" not in text
    assert text.count("&lt;script&gt;alert(1)&lt;/script&gt; | `x` {{ 7*7 }}") >= 12
