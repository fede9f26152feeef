"""The measuring command works whole on the smallest models, goes on where it was, and names what it does not know."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from training.errors import FoundryError
from training.hardware import hardware_name
from training.measuring.__main__ import EXIT_UNFINISHED, main
from training.measuring.cases import measurements
from training.measuring.devices import time_calls
from training.measuring.steps import ExampleStep, fixed_batch
from training.measuring.synthetic import Case, build_distillation_loop, build_loop


def test_smoke_form_measures_everything_and_resumes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(tmp_path), "--smoke", "--minutes", "0"]) == EXIT_UNFINISHED
    assert "still to measure: call again" in capsys.readouterr().out
    assert main([str(tmp_path), "--smoke"]) == 0
    results = {path.name: json.loads(path.read_text()) for path in tmp_path.glob("smoke.*.json")}
    assert {row["name"] for row in results.values()} == set(measurements())
    assert all(row["milliseconds"] > 0 for row in results.values())
    assert {row["device"] for row in results.values()} == {hardware_name("cpu", torch.get_num_threads())}
    written = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    assert main([str(tmp_path), "--smoke"]) == 0
    assert written == {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}


def test_unknown_measurement(tmp_path: Path) -> None:
    with pytest.raises(FoundryError, match=r"--only names 'mfu.SDX'; allowed are mfu.DiT"):
        main([str(tmp_path), "--only", "mfu.SDX"])


def test_it_needs_training_alone() -> None:
    code = (
        "import sys, training.measuring.__main__;"
        "print(sorted({'dagster', 'ray', 'assets', 'evaluation', 'orchestration'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_median_of_calls() -> None:
    calls: list[int] = []
    timing = time_calls(lambda: calls.append(1), "cpu", warmup=2, calls=5)
    assert len(calls) == 8
    assert timing.peak_bytes is None
    assert timing.seconds >= 0


def test_the_example_computes_our_loss(tmp_path: Path) -> None:
    case = Case("UNet-tiny", 4)
    loop = build_loop(case, tmp_path, "cpu")
    batch, draw = fixed_batch(loop, 4), loop.order.draw(0, 4)
    loss, _ = loop.objective.loss(batch, draw)
    peer = ExampleStep(loop, case, best=False)
    noise = torch.from_numpy(draw.normal("noise", batch.latents.shape[1:]))
    steps = (torch.from_numpy(draw.uniform("noise_level")) * 1000).long()
    torch.testing.assert_close(loss, peer.loss(noise, steps), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("backbone", "kept"), [("UNet-tiny", {"mid": False}), ("PixArt-demo-h64-d4", {"blocks": 2})]
)
def test_a_distillation_of_default_features(backbone: str, kept: dict[str, object], tmp_path: Path) -> None:
    loop = build_distillation_loop(Case(backbone, 4), kept, tmp_path, "cpu")
    before = [parameter.clone() for parameter in loop.parameters]
    loop._step()
    assert loop.images_seen == 4
    row = loop.interval.row()
    assert row["loss"] > row["loss_task"] > 0
    assert any(name.startswith("loss_feature_SA_") for name in row)
    assert any(not torch.equal(a, b) for a, b in zip(before, loop.parameters, strict=True))
