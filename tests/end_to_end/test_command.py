"""The ``foundry`` command, used as a user would."""

from __future__ import annotations

import json
import re
import socket
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from orchestration.definitions import surroundings_of
from orchestration.profile import load_profile
from orchestration.resources.store import ManifestStore
from orchestration.workspace import Workspace
from tests.end_to_end.conftest import copy_of, flip_byte, foundry, runs_in, said_while_built
from training.shards import TrainingShards


def test_a_demo_says_what_it_will_do_and_nothing_of_ray(built: Workspace) -> None:
    said = said_while_built(built)
    lines = said.out.splitlines()
    assert re.fullmatch(r"To do: \d+ runs in \d+ phases\.", lines[1])
    assert lines[2].split() == ["scenes", "and", "autoencoder", "2", "run(s)"]
    assert any("runs done" in line for line in lines), "a line now and then, where there is no terminal"
    assert "core_worker" not in said.out + said.err
    assert said.err == ""


def test_a_second_demo_finds_everything_fresh_and_ends_with_a_table_and_a_report(
    smoke: Workspace, store: ManifestStore
) -> None:
    start = time.monotonic()
    again = foundry(smoke, "demo", "--json")
    assert again.code == 0, again.err
    assert time.monotonic() - start < 60
    assert "Everything is fresh" in again.err
    assert "running" not in again.err
    assert "report.html" in again.err
    rows = again.rows()
    assert {row["recipe"] for row in rows} == set(load_profile("smoke").of("backbone"))
    assert all(row["denoising error"] > 0 for row in rows)
    for key, pipeline in (
        ("sd3-tiny", "StableDiffusion3"),
        ("flux-tiny", "Flux"),
        ("sdxl-tiny", "StableDiffusionXL"),
    ):
        index = json.loads((store.local_folder("backbone", key) / "model_index.json").read_text())
        assert index["_class_name"] == f"{pipeline}Pipeline"
    page = (store.local_folder("report") / "report.html").read_text()
    assert "Twemoji" in page
    assert "CC-BY 4.0" in page
    assert "not identifiable" in page


def test_lineage_goes_back_to_landed_data(smoke: Workspace, store: ManifestStore) -> None:
    records = foundry(smoke, "lineage", "backbone", "unet-tiny", "--json").rows()
    versions = {record["version"]: record for record in records}
    assert versions["backbone@unet-tiny"]["config"]["backbone"] == "UNet-smoke"
    for group in ("group-00", "group-01"):
        landed = store.current("landed_images", group)
        assert landed is not None
        assert versions[f"landed_images@{group}"]["digest"] == landed.digest
    assert any(name.startswith("shard:") for name in versions)
    assert {"autoencoder", "training_shards", "regions", "captioner", "text_encoder"} <= set(versions)
    inside = json.loads((store.local_folder("backbone", "unet-tiny") / "lineage.json").read_text())
    assert [record["digest"] for record in inside] == [record["digest"] for record in records]


def test_a_pruned_model_walks_back_to_scores_model_and_dataset(
    smoke: Workspace, store: ManifestStore
) -> None:
    key = "transformer-tiny-ecodiff-20"
    records = foundry(smoke, "lineage", "pruned_backbone", key, "--json").rows()
    versions = {record["version"] for record in records}
    wanted = {"unit_scores@transformer-tiny-ecodiff", "backbone@transformer-tiny", "training_shards"}
    assert wanted <= versions
    manifest = store.current("pruned_backbone", key)
    assert manifest is not None
    assert manifest.gate is not None
    assert manifest.gate.passed
    assert manifest.gate.findings["changed"] == "none"
    assert {row["model_digest"] for row in store.read_table("smaller_model_scores", key).to_pylist()} == {
        manifest.digest
    }
    query = "SELECT method, recovery, parameters_left, macs_left, peak_memory_left FROM pruning_comparison"
    rows = foundry(smoke, "sql", query, "--json").rows()
    assert {row["method"] for row in rows} == {"ecodiff"}
    for row in rows:
        assert 0.5 < row["parameters_left"] < 1
        assert row["macs_left"] < 1
        assert row["peak_memory_left"] < 1
        assert row["recovery"] == "none"


def test_sql_sees_all_tables(smoke: Workspace) -> None:
    query = "SELECT split, count(*) AS n FROM landed_images GROUP BY split ORDER BY split"
    rows = foundry(smoke, "sql", query, "--json").rows()
    counts = {"held_out_concepts": 16, "held_out_images": 16, "judge": 64, "train": 54}
    assert rows == [{"split": split, "n": n} for split, n in counts.items()]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["sql", "SELECT nothing FROM nowhere"], "Tables: alignment_scores"),
        (["lineage", "backbones"], "There is no version of 'backbones'"),
        (["lineage", "backbone"], "transformer-tiny-seed1"),
        (["import", "/nowhere", "--name", "mine"], "/nowhere"),
        (["import", "/tmp", "--name", "Bad Name"], "Bad Name"),
        (["demo", "--data", "nobody"], "Nothing has landed under the name 'nobody'"),
    ],
)
def test_a_users_mistake_is_one_sentence_and_a_non_zero_exit(
    smoke: Workspace, arguments: list[str], sentence: str
) -> None:
    failed = foundry(smoke, *arguments)
    assert failed.code == 1
    assert sentence in failed.err
    assert "Traceback" not in failed.err + failed.out


def test_doctor_looks_at_this_machine(smoke: Workspace) -> None:
    findings = {row["what"]: row for row in foundry(smoke, "doctor", "--json").rows()}
    assert findings["profile"]["found"].startswith("smoke")
    assert str(smoke.home) in findings["storage"]["found"]
    assert findings["ray starts"]["state"] == "ok", findings["ray starts"]
    assert {"python", "torch", "dagster", "free disk", "free memory", "gpu", "port 3000"} <= set(findings)
    assert all(row["mend"] for row in findings.values() if row["state"] != "ok")


def test_an_unknown_profile_names_the_known_ones(tmp_path: Path) -> None:
    failed = foundry(Workspace(tmp_path, "dmeo", "scenes"), "doctor")
    assert failed.code == 1
    assert "the profiles are: demo, gpu, plates, signs, smoke" in failed.err


def test_a_taken_port_is_named(smoke: Workspace) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        failed = foundry(smoke, "ui", "--port", str(port))
    assert failed.code == 1
    assert f"Port {port} on 127.0.0.1 is taken" in failed.err


def test_a_flipped_byte_is_found_and_mended(smoke: Workspace, tmp_path: Path) -> None:
    spoiled = copy_of(smoke, tmp_path)
    store = ManifestStore(spoiled.store)
    model = store.require("backbone", "unet-tiny")
    weights = next(
        file for file in model.files if file.path.endswith("unet/diffusion_pytorch_model.safetensors")
    )
    flip_byte(spoiled.store / weights.path)
    recaptions = store.require("recaptions", "group-00")
    flip_byte(spoiled.store / recaptions.files[0].path)
    refused = foundry(spoiled, "sql", "SELECT count(*) FROM recaptions")
    assert refused.code == 1
    assert "is damaged" in refused.err
    mended = foundry(spoiled, "demo")
    assert mended.code == 0, mended.out + mended.err
    for name, key, before in (("backbone", "unet-tiny", model), ("recaptions", "group-00", recaptions)):
        assert ManifestStore(spoiled.store).require(name, key).digest == before.digest
        ManifestStore(spoiled.store).verify(ManifestStore(spoiled.store).require(name, key))


def own_pictures(tmp_path: Path, count: int) -> Workspace:
    """A home into which a folder of somebody's pictures, one of them broken, has been imported as ``boxes``."""
    source, random = tmp_path / "pictures", np.random.default_rng(0)
    source.mkdir()
    for index in range(count):
        color = random.integers(0, 255, 3)
        canvas = np.full((80, 96, 3), color, np.uint8)
        canvas[20:60, 24 : 40 + index % 40] = 255 - color
        Image.fromarray(canvas).save(source / f"{index:03d}.png")
        (source / f"{index:03d}.txt").write_text(f"a box number {index} on paper")
    (source / "broken.png").write_bytes(b"not a picture")
    (source / "broken.txt").write_text("nothing")
    home = Workspace(tmp_path / "home", "smoke", "scenes")
    landed = foundry(home, "import", str(source), "--name", "boxes", "--json").rows()[0]
    assert landed["samples"] == count
    assert "1 broken_image" in landed["set aside"]
    again = foundry(home, "import", str(source), "--name", "boxes", "--json").rows()[0]
    assert (again["shards written"], again["removed"]) == (0, 0)
    return Workspace(home.home, "smoke", "boxes")


def test_own_pictures_become_a_data_set(tmp_path: Path) -> None:
    """All data assets; the models on top of them are trained in the next test, which takes minutes."""
    boxes, profile = own_pictures(tmp_path, 60), load_profile("smoke")
    surroundings = surroundings_of(boxes, profile)
    with runs_in(boxes) as runs:
        runs.launch("publish_autoencoder")
        for group in profile.group_keys:
            runs.launch("refresh_group", group)
        runs.launch("assemble_dataset")
    quarantined = foundry(boxes, "sql", "SELECT key, reason FROM quarantine", "--json").rows()
    assert quarantined == [{"key": "broken.png", "reason": "broken_image"}]
    shards = TrainingShards.open(surroundings.store.local_folder("training_shards", require_gate=True))
    said = {captions[0] for captions in shards.samples["captions"].to_pylist()}
    assert len(said) > 40
    assert said <= {f"a box number {index} on paper" for index in range(60)}


@pytest.mark.slow
def test_own_pictures_run_through_the_graph(tmp_path: Path) -> None:
    boxes = own_pictures(tmp_path, 160)
    home = Workspace(boxes.home, "smoke", "scenes")
    done = foundry(home, "demo", "--data", "boxes")
    assert done.code == 0, done.out + done.err
    query = "SELECT value, remark FROM data_quality WHERE measure = 'against the truth'"
    (score,) = foundry(boxes, "sql", query, "--json").rows()
    assert score["value"] is None, "without truth, accuracies are unknown"
    assert "no truth table" in score["remark"]
