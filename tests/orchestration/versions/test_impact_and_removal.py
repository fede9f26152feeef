"""Where a picture went, and what taking it down does."""

from __future__ import annotations

import json
import multiprocessing
from pathlib import Path
from typing import Any

import pytest

from assets.graph.lineage import as_records, trace
from assets.versioning.impact import Impact, impact
from assets.versioning.removal import removed_images_behind
from assets.versioning.samples import sample_lineage
from assets.versioning.subjects import find_subject
from orchestration.garbage_collection import Rules, collect, plan_collection
from orchestration.resources.records import RECORDS
from orchestration.resources.store import ManifestStore
from orchestration.takedown import remove
from tests.orchestration.versions.small_graph import PICTURES, Picture, SmallGraph
from training.errors import FoundryError

APPLE, PEAR, PLUM, FIG, LIME = PICTURES


@pytest.fixture(params=["local", "memory"])
def graph(request: pytest.FixtureRequest, tmp_path: Path) -> SmallGraph:
    made = SmallGraph(
        ManifestStore(tmp_path / "store" if request.param == "local" else f"memory://{tmp_path.name}")
    )
    made.build()
    return made


def takedowns_of(store: ManifestStore, image_id: str) -> list[dict[str, Any]]:
    """Everything that was decided about an image, oldest first."""
    return [
        json.loads(store.files.read(facts.path))
        for facts in store.files.walk(f"{RECORDS}/takedowns/{image_id}")
    ]


def holders(found: Impact, state: str = "current") -> set[str]:
    return {f"{holding.name}@{holding.partition}" for holding in found.holdings if holding.state == state}


def roles(found: Impact) -> dict[str, str]:
    return {use.name: use.role for use in found.models}


def test_every_table_and_model_that_an_image_went_into_is_named(graph: SmallGraph) -> None:
    found = impact(graph.store, find_subject(graph.store, APPLE.image_id))
    tables = (
        "landed_images",
        "curated_images",
        "regions",
        "recaptions",
        "recaptions_units",
        "text_embeddings",
        "image_latents",
    )
    assert holders(found) == {f"{name}@g0" for name in tables} | {
        "training_shards@None",
        "annotation_pages@None",
    }
    assert roles(found) == {"backbone": "trained on"}
    by_name = {holding.name: holding for holding in found.holdings}
    assert by_name["text_embeddings"].num_rows == 2, "its alt-text and its caption"
    assert by_name["text_embeddings"].by == "text_id"
    assert by_name["training_shards"].splits == ("train",)
    assert by_name["annotation_pages"].by == "may show it"


@pytest.mark.parametrize(
    ("picture", "expected"),
    [
        (PLUM, {"backbone": "trained on"}),
        (FIG, {"backbone": "evaluated on", "judge_clip": "evaluated on"}),
        (LIME, {"judge_clip": "trained on"}),
    ],
    ids=lambda value: value.name if isinstance(value, Picture) else "",
)
def test_models_are_told_by_split(graph: SmallGraph, picture: Picture, expected: dict[str, str]) -> None:
    assert roles(impact(graph.store, find_subject(graph.store, picture.sample_id))) == expected


def test_old_versions_are_named_too(graph: SmallGraph) -> None:
    graph.build(word="green")
    found = impact(graph.store, find_subject(graph.store, APPLE.image_id))
    assert {"recaptions@g0", "training_shards@None", "text_embeddings@g0"} <= holders(found, "stored")
    assert sorted(use.state for use in found.models if use.name == "backbone") == ["current", "stored"]


def test_models_made_from_a_model_are_named(graph: SmallGraph) -> None:
    graph.model("pruned_backbone", "xs", ["backbone@xs"], {"dataset": {"splits": ["train"]}})
    graph.model("distilled", "xs", ["pruned_backbone@xs"], {"dataset": {"splits": ["train"]}})
    found = roles(impact(graph.store, find_subject(graph.store, APPLE.image_id)))
    assert found["pruned_backbone"] == found["distilled"] == "descends from one trained on"


def test_a_picture_is_found_by_file_prefix_and_key(graph: SmallGraph, tmp_path: Path) -> None:
    file = tmp_path / "copy.png"
    file.write_bytes(b"apple")
    for argument in (str(file), APPLE.image_id[:10], "web/apple", APPLE.sample_id[:10]):
        assert find_subject(graph.store, argument).sample_ids == {APPLE.sample_id}
    assert find_subject(graph.store, str(file)).is_image
    assert not find_subject(graph.store, "web/apple").is_image


@pytest.mark.parametrize("argument", ["nothing", "abcd", "web/none", "ffffffffffff"])
def test_what_means_nothing_is_refused(graph: SmallGraph, argument: str) -> None:
    with pytest.raises(
        FoundryError, match=f"'{argument}' is neither an image file here nor anything that landed"
    ):
        find_subject(graph.store, argument)


def test_removing_an_image_marks_models_and_says_what_is_next(graph: SmallGraph) -> None:
    store = graph.store
    assert removed_images_behind(store, store.require("backbone", "xs")) == []
    done = remove(store, APPLE.sample_id, "the photographer asked")
    assert store.takedowns() == {APPLE.image_id}
    assert done.changed
    assert done.impact.is_removed
    assert any("foundry gc --takedowns" in step for step in done.next_steps)
    assert any("web/apple" in step for step in done.next_steps)
    assert not remove(store, APPLE.image_id).changed, "once is enough"
    (record,) = takedowns_of(store, APPLE.image_id)
    assert record["because"] == "the photographer asked"
    assert removed_images_behind(store, store.require("backbone", "xs")) == [APPLE.image_id]
    assert removed_images_behind(store, store.require("judge_clip")) == []
    assert removed_images_behind(store, store.require("recaptions", "g0")) == [APPLE.image_id]
    assert removed_images_behind(store, store.require("recaptions", "g1")) == []
    assert store.marked_images(store.require("backbone", "xs")) == {APPLE.image_id}


def test_the_next_versions_are_free_of_it_and_old_bytes_go(graph: SmallGraph) -> None:
    store = graph.store
    old = store.require("backbone", "xs")
    remove(store, APPLE.image_id)
    graph.build([picture for picture in PICTURES if picture != APPLE])
    assert removed_images_behind(store, store.require("backbone", "xs")) == []
    assert removed_images_behind(store, store.require("training_shards")) == []
    rules = Rules(grace_seconds=-1, takedowns=True)
    collect(store, plan_collection(store, rules), rules)
    found = impact(store, find_subject(store, APPLE.image_id))
    assert found.holdings == []
    assert [(use.name, use.digest) for use in found.models] == [("backbone", old.digest)]
    assert removed_images_behind(store, old) == [APPLE.image_id], (
        "known from its mark, although the bytes are gone"
    )
    assert b"apple" not in b"".join(
        store.files.read(facts.path) for facts in store.files.walk("landed_images")
    )
    assert store.read_table("landed_images", "g0")["key"].to_pylist() == ["pear"]
    assert as_records(trace(store, "backbone", "xs"))


def test_a_removal_can_be_undone(graph: SmallGraph) -> None:
    store = graph.store
    remove(store, APPLE.image_id)
    assert remove(store, APPLE.image_id, undo=True).changed
    assert store.takedowns() == frozenset()
    assert removed_images_behind(store, store.require("backbone", "xs")) == []
    assert [record["undo"] for record in takedowns_of(store, APPLE.image_id)] == [False, True]


def test_an_image_that_never_landed_can_be_refused_beforehand(graph: SmallGraph, tmp_path: Path) -> None:
    file = tmp_path / "new.png"
    file.write_bytes(b"never seen")
    done = remove(graph.store, str(file))
    assert done.impact.holdings == []
    assert done.next_steps == ["It has not landed so far; it is refused when it does."]
    assert len(graph.store.takedowns()) == 1


def _remove_some(root: str, first: int) -> None:
    store = ManifestStore(root)
    for index in range(first, 20, 2):
        remove(store, f"{index:064x}")


def test_two_processes_lose_no_takedown(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=_remove_some, args=(str(tmp_path), first)) for first in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert ManifestStore(tmp_path).takedowns() == {f"{index:064x}" for index in range(20)}


def test_a_sample_leads_back_to_image_and_models(graph: SmallGraph) -> None:
    store = graph.store
    dataset = store.require("training_shards")
    graph.tables([APPLE], "g0", "green")  # newer captions, that the data set has not read
    found = sample_lineage(store, "training_shards", None, APPLE.sample_id[:12])
    assert (found.image["image_id"], found.image["license"], found.image["shard"]) == (
        APPLE.image_id,
        "CC0-1.0",
        "a.parquet",
    )
    alt_text, made = found.captions
    assert (alt_text["caption"], alt_text["from"], alt_text["model"]) == ("apple", "alt-text", None)
    assert (made["caption"], made["model"], made["prompt"], made["seed"]) == (
        "a red apple",
        "writer",
        "say it",
        7,
    )
    assert made["model_digest"] == "w" * 64
    assert made["encoder"] == "encoder tttttttttttt"
    assert found.derived["regions"] == [{"model": "eyes", "model_digest": "e" * 64, "function_version": 1}]
    assert found.derived["image_latents"] == [
        {"model": "vae", "model_digest": "a" * 64, "function_version": 1}
    ]
    assert found.versions["recaptions@g0"] == dataset.provenance.inputs["recaptions@g0"]
    assert found.versions["recaptions@g0"] != store.require("recaptions", "g0").digest


def test_a_sample_that_is_not_there_is_refused(graph: SmallGraph) -> None:
    with pytest.raises(FoundryError, match=r"'ffff' is no sample of training_shards .* which has 4"):
        sample_lineage(graph.store, "training_shards", None, "ffff")
    with pytest.raises(FoundryError, match="holds no list of samples"):
        sample_lineage(graph.store, "backbone", "xs", APPLE.sample_id)
