"""What backbones cost on their pages: counted, timed and weighed on the same inputs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import torch

from assets.models.comparison import TIMED_BATCH, measure, smaller_markdown
from evaluation.tables.scores import SMALLER_MODEL_SCORES
from training.backbones import build_backbone, count_parameters, example_inputs
from training.measuring.memory import peak_memory_bytes
from training.pruning import prune, unit_groups


def test_backbones_are_counted_timed_and_weighed(tmp_path: Path) -> None:
    dense = build_backbone("PixArt-tiny", 0)
    keep = {g.key: torch.arange(g.num_units) < g.num_units // 2 for g in unit_groups(dense, ("ffn",))}
    models = (dense.eval(), prune(dense, keep))
    for number, model in enumerate(models):
        model.save_pretrained(tmp_path / str(number) / "transformer")
    parent, child = measure([tmp_path / "0", tmp_path / "1"], 7)
    assert parent.parameters == count_parameters("PixArt-tiny") > child.parameters
    assert parent.macs > child.macs
    assert min(parent.milliseconds, child.milliseconds) > 0
    wanted = [peak_memory_bytes(m, example_inputs(m, TIMED_BATCH, num_tokens=7)) for m in models]
    assert [parent.peak_memory_bytes, child.peak_memory_bytes] == wanted
    assert wanted[0] - wanted[1] >= 4 * (parent.parameters - child.parameters)


def test_the_page_tells_memory_in_megabytes() -> None:
    row: dict[str, Any] = {
        "recipe": "child", "parent": "teacher", "model": "parent", "parameters": 200, "macs": 3, "milliseconds": 1.0,
        "peak_memory_bytes": 12_345_678, "judge_cosine": 0.2, "judge_cosine_low": 0.1, "judge_cosine_high": 0.3,
        "relative": None, "relative_low": None, "relative_high": None, "ssim": None, "num_steps": 16, "guidance": 3.0,
        "num_prompts": 2, "prompt_cosines": [0.1, 0.3], "sheet": None, "model_digest": "d" * 64,
    }  # fmt: skip
    child = {**row, "model": "child", "parameters": 100, "peak_memory_bytes": 6_000_000, "relative": -0.05,
             "relative_low": -0.1, "relative_high": 0.0, "ssim": 0.9}  # fmt: skip
    text = smaller_markdown(pa.Table.from_pylist([row, child], schema=SMALLER_MODEL_SCORES))
    head, line, first, second = (part.split("|")[1:-1] for part in text.splitlines()[:4])
    assert len(head) == len(line) == len(first) == len(second) == 8
    column = [name.strip() for name in head].index("peak MB, batch of 8")
    assert [first[column].strip(), second[column].strip()] == ["12.3", "6.0"]
