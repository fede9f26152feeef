"""Every recipe printed in docs/fine_tuning.md is one that loads."""

from __future__ import annotations

import re
from pathlib import Path

from training.recipes.files import load_recipes

DOCUMENT = Path(__file__).parents[3] / "docs" / "fine_tuning.md"


def test_printed_recipes_load(tmp_path: Path) -> None:
    names = []
    for text in re.findall(r"```yaml\n(.*?)```", DOCUMENT.read_text(encoding="utf-8"), re.DOTALL):
        path = tmp_path / "recipes.yaml"
        path.write_text(text)
        names += list(load_recipes(path))
    assert names == ["sdxl-full", "sdxl-lora", "sdxl-full-8bit", "flux-lora-int8"]
