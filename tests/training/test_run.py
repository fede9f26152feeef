"""A run ends bit-equal whatever interrupts it, and a mistake or damage is told before work is lost."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.training.conftest import RunMaker
from tests.training.killing import assert_bit_equal, kill_at_random, newest
from training.errors import FoundryError, TrainingFailed, TrainingStopped
from training.run import EXIT_FAILED, EXIT_STOPPED, run
from training.run_folder import RunFolder, prepare

WEIGHTS = "transformer/diffusion_pytorch_model.safetensors"
LONG: dict[str, Any] = {
    "images_total": 1200,
    "batch_size": 8,
    "ema_half_life_images": 100,
    "schedule": "cosine",
    "warmup_images": 80,
}


def weights(folder: RunFolder) -> dict[str, torch.Tensor]:
    # load_file maps the file, which a test may change: copy
    return {name: value.clone() for name, value in load_file(folder.model / WEIGHTS).items()}


def start(folder: RunFolder) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    return subprocess.Popen(
        [sys.executable, "-m", "training.run", str(folder.path)], stderr=subprocess.DEVNULL, env=environment
    )


@pytest.mark.parametrize("kills", [5, pytest.param(100, marks=pytest.mark.soak)])
def test_killed_at_random_moments_ends_bit_equal(runs: RunMaker, kills: int) -> None:
    total, every = 100 * kills, 16
    settings = {**LONG, "images_total": total}
    execution = {"checkpoint_every_images": every, "checkpoint_every_seconds": 3600}
    whole, killed = (runs.prepare(name, execution, **settings) for name in ("whole", "killed"))
    run(whole.path)
    half_written = kill_at_random(killed, kills, every, seed=5)
    assert 0 < newest(killed) < total
    run(killed.path)
    assert_bit_equal(killed, whole, (WEIGHTS, "raw/diffusion_pytorch_model.safetensors"))
    if kills == 100:
        assert half_written, "no kill met a checkpoint while it was written"


def test_sigterm_writes_a_checkpoint_and_a_new_launch_ends_the_run(runs: RunMaker) -> None:
    folder = runs.prepare(images_total=100_000, batch_size=8)
    process = start(folder)
    while folder.read_progress().images_seen == 0 and process.poll() is None:
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=15) == EXIT_STOPPED
    assert newest(folder) > 0
    assert folder.read_progress().state == "stopped"


def test_stop_file_and_callback(runs: RunMaker) -> None:
    folder = runs.prepare(images_total=80)
    asked = iter([False, False, True])
    with pytest.raises(TrainingStopped, match="stopped at image 8 of 80"):
        run(folder.path, lambda: next(asked))
    folder.request_stop()
    with pytest.raises(TrainingStopped):
        run(folder.path)
    assert prepare(folder.path.parent, runs.spec(images_total=80), runs.execution()).path == folder.path
    run(folder.path)
    assert folder.read_progress().state == "done"


def test_a_done_run_returns_at_once_and_a_damaged_model_is_made_again(runs: RunMaker) -> None:
    folder = runs.prepare()
    run(folder.path)
    first = weights(folder)
    written = folder.done_path.stat().st_mtime_ns
    run(folder.path)
    assert folder.done_path.stat().st_mtime_ns == written
    data = bytearray((folder.model / WEIGHTS).read_bytes())
    data[-1] ^= 1
    (folder.model / WEIGHTS).write_bytes(data)
    run(folder.path)
    again = weights(folder)
    assert all(torch.equal(first[name], again[name]) for name in first)


def test_damaged_and_half_written_checkpoints_are_passed_over(runs: RunMaker) -> None:
    whole = runs.prepare("whole")
    run(whole.path)
    folder = runs.prepare("broken", {"checkpoint_every_images": 8})
    asked = iter([False] * 7 + [True])
    with pytest.raises(TrainingStopped):
        run(folder.path, lambda: next(asked))
    newest_folder = folder.checkpoints / f"{newest(folder):015d}"
    data = bytearray((newest_folder / "model.safetensors").read_bytes())
    data[len(data) // 2] ^= 1
    (newest_folder / "model.safetensors").write_bytes(data)
    (folder.checkpoints / ".000000000000099.1.tmp").mkdir()
    empty = folder.checkpoints / "000000000000100"
    empty.mkdir()
    run(folder.path)
    assert all(torch.equal(weights(whole)[name], value) for name, value in weights(folder).items())
    assert not list(folder.checkpoints.glob(".*"))


def test_accumulation_equals_one_batch(runs: RunMaker) -> None:
    one, parts = runs.prepare("one", clip_norm=None), runs.prepare("parts", clip_norm=None, micro_batches=2)
    run(one.path)
    run(parts.path)
    for name, value in weights(one).items():
        torch.testing.assert_close(weights(parts)[name], value, atol=2e-4, rtol=1e-3)


def test_last_batch_is_cut_and_metrics_tell_what_was_drawn(runs: RunMaker) -> None:
    folder = runs.prepare(images_total=22, batch_size=4, diffusion={"caption_dropout": 0.3})
    run(folder.path)
    metrics = folder.read_metrics().to_pylist()
    assert metrics[-1]["images_seen"] == 22
    drawn = sum(value for row in metrics for name, value in row.items() if name.startswith("count_caption_"))
    assert drawn == 22
    assert {"loss", "grad_norm", "learning_rate", "images_per_second", "epoch"} <= set(metrics[0])
    assert sum(row["count_caption_null"] for row in metrics) > 0


def test_not_finite_loss_stops_and_keeps_the_checkpoint(runs: RunMaker) -> None:
    folder = runs.prepare(images_total=400, learning_rate=9.0, clip_norm=None, precision="fp32")
    asked = iter([False, True])
    with pytest.raises(TrainingStopped):
        run(folder.path, lambda: next(asked))
    state = folder.checkpoints / f"{newest(folder):015d}" / "model.safetensors"
    tensors = load_file(state)
    name = next(iter(tensors))
    save_file({**tensors, name: tensors[name] * float("nan")}, state)
    manifest = json.loads((state.parent / "manifest.json").read_text())
    from training.digests import sha256_file

    manifest["files"]["model.safetensors"] = sha256_file(state)
    (state.parent / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(TrainingFailed, match=r"loss is nan .*Lower learning_rate"):
        run(folder.path)
    assert newest(folder) == 4
    progress = folder.read_progress()
    assert progress.state == "failed"
    assert "loss is nan" in str(progress.error)


def test_changed_specification_is_refused(runs: RunMaker) -> None:
    folder = runs.prepare()
    text = folder.spec_path.read_text()
    folder.spec_path.write_text(text.replace('"images_total":40', '"images_total":44'))
    with pytest.raises(FoundryError, match="must not be edited"):
        run(folder.path)
    folder.spec_path.write_text(text.replace('"images_total":40', '"image_total":40'))
    with pytest.raises(FoundryError, match=r"image_total.*did you mean 'images_total'"):
        run(folder.path)
    folder.spec_path.write_text("{")
    with pytest.raises(FoundryError, match="not valid JSON"):
        run(folder.path)
    folder.spec_path.unlink()
    with pytest.raises(FoundryError, match="cannot be read"):
        run(folder.path)


def test_changed_and_missing_inputs_are_refused(runs: RunMaker, tmp_path: Path) -> None:
    import shutil

    copy = tmp_path / "copy"
    shutil.copytree(runs.shards, copy)
    places = {"dataset": str(copy), "autoencoder": str(runs.autoencoder)}
    folder = runs.prepare(execution={"input_paths": places})
    (copy / "extra").write_text("x")
    with pytest.raises(FoundryError, match="input 'dataset' has digest"):
        run(folder.path)
    shutil.rmtree(copy)
    with pytest.raises(FoundryError, match="input 'dataset' is not there"):
        run(folder.path)
    folder = runs.prepare(execution={"input_paths": {"dataset": str(runs.shards)}})
    with pytest.raises(FoundryError, match="input_paths lacks 'autoencoder'"):
        run(folder.path)


def test_latents_of_another_autoencoder_are_refused(runs: RunMaker) -> None:
    spec = runs.spec()
    other = spec.model_copy(update={"inputs": {**spec.inputs, "text_encoder": "f" * 64}})
    folder = prepare(runs.root / "runs", other, runs.execution())
    with pytest.raises(FoundryError, match="made with text_encoder eeeeeeeeeeee"):
        run(folder.path)


def test_unknown_backbone_and_wrong_world_size(runs: RunMaker) -> None:
    with pytest.raises(
        FoundryError, match="'PixArt-tny', which is not registered; did you mean 'PixArt-tiny'"
    ):
        run(runs.prepare(backbone="PixArt-tny").path)
    with pytest.raises(FoundryError, match="'world_size' is 2"):
        run(runs.prepare(execution={"world_size": 2}).path)


def test_only_one_process_trains_a_folder(runs: RunMaker) -> None:
    folder = runs.prepare()
    other = folder.lock_path.open("w")
    import fcntl

    fcntl.flock(other, fcntl.LOCK_EX)
    with pytest.raises(FoundryError, match="another process trains this run"):
        run(folder.path)
    other.close()


def test_command_line_tells_a_mistake_without_traceback(tmp_path: Path) -> None:
    result = subprocess.run(
        [sys.executable, "-m", "training.run", str(tmp_path / "none")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == EXIT_FAILED
    assert "spec.json: cannot be read" in result.stderr
    assert "Traceback" not in result.stderr


FULL_DISK = """
import resource, signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
from training.run import main
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
sys.exit(main([sys.argv[1]]))
"""


def test_a_write_that_fails_keeps_the_last_checkpoint(runs: RunMaker) -> None:
    folder = runs.prepare(execution={"checkpoint_every_images": 8}, images_total=8000)
    asked = iter([False, True])
    with pytest.raises(TrainingStopped):
        run(folder.path, lambda: next(asked))
    result = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(folder.path)], capture_output=True, text=True, check=False
    )
    assert resource.RLIMIT_FSIZE is not None
    assert result.returncode == EXIT_FAILED, result.stderr
    assert "cannot be written" in result.stderr
    assert "Traceback" not in result.stderr
    assert newest(folder) == 4
    assert not list(folder.checkpoints.glob(".*"))
    progress = folder.read_progress()
    assert progress.state == "failed"
    assert progress.images_seen < 8000  # the run did not go on without checkpoints
    asked = iter([False, True])
    with pytest.raises(TrainingStopped):
        run(folder.path, lambda: next(asked))
    assert newest(folder) == 8


def test_loss_falls(runs: RunMaker) -> None:
    folder = runs.prepare(images_total=1600, batch_size=10, learning_rate=3e-3, dataset={"max_samples": 2})
    run(folder.path)
    losses = folder.read_metrics()["loss"].to_pylist()
    assert sum(losses[-20:]) < 0.8 * sum(losses[:20])
