"""``foundry backbones``: JSON for programs, one sentence for a mistake."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from orchestration.command.main import app
from training.errors import FoundryError


def test_json_and_table() -> None:
    found = CliRunner().invoke(app, ["backbones", "UNet-tiny", "SDXL-C128", "--json"])
    rows = json.loads(found.stdout)
    assert [row["name"] for row in rows] == ["UNet-tiny", "SDXL-C128"]
    assert rows[0]["printed"] is None
    assert rows[1]["params"] == 423_971_332
    assert rows[1]["macs_with_attention"] == 35_871_784_960
    assert rows[1]["printed"] == {"params_b": 0.42, "gmacs": 35, "attention_gmacs": 23}
    table = CliRunner().invoke(app, ["backbones", "SDXL-C128"])
    assert "423,971,332" in table.stdout


def test_a_mistake_is_told() -> None:
    found = CliRunner().invoke(app, ["backbones", "SDXL-C129"])
    assert isinstance(found.exception, FoundryError)
    with pytest.raises(FoundryError, match="did you mean 'SDXL-C1"):
        raise found.exception
    wrong = CliRunner().invoke(app, ["backbones", "--conditioning", "none"])
    assert "allowed are paper, stock" in str(wrong.exception)
