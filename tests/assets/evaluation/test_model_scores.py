"""The long table of scores: what was measured is kept, and a metric more costs that metric alone."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from assets.evaluation.leaderboard import leaderboard, leaderboard_picture, ranked, scores_of_models
from assets.evaluation.model_scores import ScoredModel, score_models
from assets.pages.markdown import markdown_table
from evaluation.intervals import Interval, mean_interval
from evaluation.metrics.alignment import JUDGE_COSINE, JUDGE_TOP1
from evaluation.metrics.asked_words import AskedWords
from evaluation.metrics.metric import Evidence, HeldOutErrors, Metric, Pictures
from evaluation.metrics.objects_in_box import ToldBoxes
from evaluation.metrics.objects_shown import LookedFor
from evaluation.metrics.placement import Found, Wanted
from evaluation.metrics.registry import METRICS
from evaluation.tables.scores import MODEL_SCORES
from training.errors import FoundryError

SPLITS = ("held_out_concepts",) * 3 + ("held_out_images",) * 3
IDS = tuple(f"sample-{number}" for number in range(6))
PROMPTS = tuple(f"prompt {number}" for number in range(6))
SETTINGS: dict[str, dict[str, Any]] = {
    "pictures": {"num_steps": 4, "prompts": "p", "dataset": "d"},
    "judge": {"digest": "j"},
    "distractors": {"k": 4},
    "real_pictures": {"samples": "r"},
    "held_out_errors": {"samples": "s", "dataset": "d"},
    "objects": {"perception": "e", "wanted": "w"},
    "layouts": {"perception": "e", "told": "t"},
    "words": {"asked": "w", "read_by": "o"},
}
LEFT, RIGHT = (0.0, 0.0, 0.4, 1.0), (0.6, 0.0, 1.0, 1.0)
ALL = tuple(METRICS.values())


class Hearsay:
    """A judge whose vectors are told by the first pixel and by the text alone."""

    def embed_images(self, images: np.ndarray) -> np.ndarray:
        return _unit([int(image[0, 0, 0]) for image in images])

    def embed_texts(self, texts: Any) -> np.ndarray:
        return _unit([len(text) * 7 + int(text[-1]) for text in texts])


def _unit(seeds: list[int]) -> np.ndarray:
    rows = np.stack([np.random.default_rng(seed).normal(size=8) for seed in seeds])
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


class Store:
    """Models by recipe, and how often each thing was made of them."""

    def __init__(self) -> None:
        self.made: Counter[tuple[str, str]] = Counter()

    def model(self, recipe: str, digest: str, *, kind: str = "backbone", **settings: Any) -> ScoredModel:
        seed = sum(map(ord, recipe + digest))
        random = np.random.default_rng(seed)
        images = random.integers(0, 256, (6, 16, 16, 3), dtype=np.uint8)
        things: dict[str, Any] = {
            "pictures": Pictures(IDS, SPLITS, PROMPTS, images),
            "held_out_errors": HeldOutErrors(IDS, SPLITS, random.random(6)),
            "judge": Hearsay(),
            "distractors": 4,
            "real_features": random.normal(size=(5, 4)),
            "features": random.normal(size=(6, 4)),
            "reference": Pictures(IDS, SPLITS, PROMPTS, images[::-1]),
            "objects": LookedFor([["pig"]] * 6, [{"pig"} if row % 2 else set() for row in range(6)]),
            "layouts": ToldBoxes(
                IDS,
                [Wanted(key, "pig", LEFT) for key in IDS],
                {key: [Found("pig", LEFT if row % 2 else RIGHT)] for row, key in enumerate(IDS)},
                [Wanted(key, "pig", RIGHT) for key in IDS],
                {key: [Found("pig", RIGHT)] for key in IDS},
            ),
            "words": AskedWords(["STOP", "GO"] * 3, ["stop", "no"] * 3, ["stop", "go"] * 3),
        }

        def making(name: str) -> Callable[[], Any]:
            def make() -> Any:
                self.made[recipe, name] += 1
                return things[name]

            return make

        sources = {name: making(name) for name in things}
        return ScoredModel(kind, recipe, digest, {**SETTINGS, **settings}, lambda: Evidence(sources))


def quiet(line: str) -> None:
    """Says nothing."""


def test_every_metric_of_every_model_is_a_row_a_split() -> None:
    table = score_models([Store().model("a", "1"), Store().model("b", "2")], ALL, None, quiet)
    assert table.schema.equals(MODEL_SCORES)
    names = {row["metric"] for row in table.to_pylist()}
    assert names == set(METRICS) - {"ssim"}  # which needs a parent
    cosine = table.filter(pc.and_(pc.equal(table["metric"], "judge_cosine"), pc.equal(table["recipe"], "a")))
    whole, *parts = cosine.to_pylist()
    assert [row["split"] for row in (whole, *parts)] == [
        "held_out", "held_out_concepts", "held_out_images",
    ]  # fmt: skip
    assert (whole["n"], whole["unit"], whole["better"]) == (6, "prompt", "up")
    assert whole["by_unit"] == parts[0]["by_unit"] + parts[1]["by_unit"]
    assert whole["value"] == pytest.approx(np.mean(whole["by_unit"]))
    assert mean_interval(np.array(parts[0]["by_unit"])).low == pytest.approx(parts[0]["low"], abs=1e-6)
    known = {"objects_in_box": 0.5, "objects_follow_boxes": 1.0, "written_f1": 0.75, "located_f1": 1.0}
    for name, value in known.items():
        found = table.filter(pc.equal(table["metric"], name))["value"].to_pylist()
        assert found == pytest.approx([value] * 2, abs=1e-5)
    kid = table.filter(pc.equal(table["metric"], "kid_efflite0")).to_pylist()
    assert [row["split"] for row in kid] == ["held_out"] * 2
    assert kid[0]["by_unit"] is None
    assert kid[0]["low"] < kid[0]["value"] < kid[0]["high"]


def test_what_was_measured_is_not_looked_at_again() -> None:
    store = Store()
    models = [store.model("a", "1"), store.model("b", "2")]
    table = score_models(models, ALL, None, quiet)
    first = Counter(store.made)
    assert first["a", "pictures"] == first["b", "held_out_errors"] == 1
    assert score_models(models, ALL, table, quiet).equals(table)
    assert store.made == first


def test_a_new_model_is_measured_alone_and_one_that_is_gone_leaves() -> None:
    store = Store()
    table = score_models([store.model("a", "1"), store.model("b", "2")], ALL, None, quiet)
    store.made.clear()
    retrained = score_models([store.model("a", "1"), store.model("b", "3")], ALL, table, quiet)
    assert {recipe for recipe, _ in store.made} == {"b"}
    assert set(retrained["model_digest"].to_pylist()) == {"1", "3"}


def test_another_protocol_is_measured_again_by_whom_it_concerns() -> None:
    store = Store()
    table = score_models([store.model("a", "1")], ALL, None, quiet)
    store.made.clear()
    changed = score_models([store.model("a", "1", judge={"digest": "another"})], ALL, table, quiet)
    assert set(store.made) == {("a", "pictures"), ("a", "judge"), ("a", "distractors")}

    def digests(rows: pa.Table) -> dict[str, str]:
        return {row["metric"]: row["protocol_digest"] for row in rows.to_pylist()}

    before, after = digests(table), digests(changed)
    assert {name for name in before if before[name] != after[name]} == {
        "judge_cosine", "judge_floor", "judge_top1_of_k",
    }  # fmt: skip
    row = changed.filter(pc.equal(changed["metric"], "judge_cosine")).to_pylist()[0]
    assert json.loads(row["protocol"])["judge"] == {"digest": "another"}


def test_a_metric_with_an_interval_is_one_entry_and_is_computed_alone() -> None:
    """The whole of what somebody writes who adds one, and nothing else is measured for it."""

    def lightness(evidence: Evidence) -> np.ndarray:
        return evidence.pictures.images.mean(axis=(1, 2, 3))

    def lightest(values: np.ndarray, evidence: Evidence) -> Interval:
        return Interval(float(np.median(values)), float(values.min()), float(values.max()))

    toy = Metric("lightness", "lightness", "mean of 8-bit pixels", "up", ("pictures",), lightness, lightest)
    store = Store()
    models = [store.model("a", "1"), store.model("b", "2")]
    table = score_models(models, ALL, None, quiet)
    store.made.clear()
    more = score_models(models, (*ALL, toy), table, quiet)
    assert store.made == {("a", "pictures"): 1, ("b", "pictures"): 1}
    added = more.filter(pc.equal(more["metric"], "lightness"))
    assert more.num_rows == table.num_rows + added.num_rows
    assert added["n"].to_pylist() == [6, 3, 3] * 2
    assert more.filter(pc.not_equal(more["metric"], "lightness")).equals(table)
    assert "lightness" in markdown_table(leaderboard(more, (*ALL, toy)))
    store.made.clear()
    raised = score_models(models, (*ALL, replace(toy, version=2)), more, quiet)
    assert store.made == {("a", "pictures"): 1, ("b", "pictures"): 1}
    assert raised.num_rows == more.num_rows


@pytest.mark.parametrize("metric", ALL, ids=lambda metric: metric.name)
def test_a_metric_looks_at_its_needs_alone(metric: Metric) -> None:
    """A need that is not named would be missing in the protocol."""
    store = Store()
    sources = store.model("a", "1").evidence()
    allowed = {*metric.needs, *({"features", "real_features"} if metric.name.startswith("kid") else ())}
    values = metric.by_unit(sources)
    metric.interval(values, sources)
    looked_at = {name for _, name in store.made}
    assert looked_at - {"distractors"} <= allowed
    if (
        "distractors" in looked_at - allowed
    ):  # all of the judge's scores are made at once; these do not hang on it
        fewer = Evidence({"pictures": lambda: sources.pictures, "judge": Hearsay, "distractors": lambda: 2})
        assert np.array_equal(values, metric.by_unit(fewer))


def test_a_need_that_nobody_meets_is_named() -> None:
    with pytest.raises(FoundryError, match=r"asks for 'pictures'.*only judge are known"):
        JUDGE_COSINE.by_unit(Evidence({"judge": Hearsay}))


def test_the_judge_picks_among_the_prompts_there_are() -> None:
    evidence = Store().model("a", "1").evidence()
    assert evidence.alignment.k == 4
    few = Evidence({"alignment": lambda: evidence.alignment})
    assert np.array_equal(JUDGE_TOP1.by_unit(few), evidence.alignment.top1_of_k)


def test_the_leaderboard_ranks_what_was_measured_alike() -> None:
    store = Store()
    others = {"pictures": {"num_steps": 12, "prompts": "p", "dataset": "d"}}
    models = [
        store.model("a", "1"),
        store.model("b", "2", reference={"model": "1"}, kind="pruned_backbone"),
        store.model("c", "3", kind="scaling_run", **others),
    ]
    table = score_models(models, ALL, None, quiet)
    scores = scores_of_models(table)
    order = ranked(scores, JUDGE_COSINE)
    assert order[-1] == ("scaling_run", "c")
    first, second = (scores[model]["judge_cosine"][0].value for model in order[:2])
    assert first >= second
    lines = markdown_table(leaderboard(table, ALL)).splitlines()
    assert len(lines) == 2 + 3
    assert [("other protocol" in line) for line in lines[2:]] == [False, False, True]
    assert leaderboard_picture(table, ALL)
    assert leaderboard_picture(table.slice(0, 0), ALL) is None
