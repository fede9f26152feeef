"""``foundry analyze --text-layers``, ``localize`` and ``edit-text`` on a pipeline folder that somebody else saved."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import Result
from diffusers import DDIMScheduler, UNet2DConditionModel
from PIL import Image
from typer.testing import CliRunner

from orchestration.command.main import app
from tests.training.text_encoders import checkpoints
from training.errors import FoundryError
from training.packaged_models import SHIPPED_AUTOENCODER

TOKENS = 20


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Stable Diffusion pipeline of random weights, with its CLIP and its tokenizer."""
    place = tmp_path_factory.mktemp("foreign") / "tiny-sd"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        UNet2DConditionModel(
            sample_size=8, in_channels=16, out_channels=16, block_out_channels=(8, 16), layers_per_block=1,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"), up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
            attention_head_dim=2, cross_attention_dim=32, norm_num_groups=4,
        ).save_pretrained(place / "unet")  # fmt: skip
    checkpoints.clip(place / "text_encoder", projection=False)
    DDIMScheduler(prediction_type="v_prediction", clip_sample=False).save_pretrained(place / "scheduler")
    shutil.copytree(SHIPPED_AUTOENCODER, place / "vae")
    parts = {"unet": "UNet2DConditionModel", "vae": "AutoencoderKL", "scheduler": "DDIMScheduler"}
    index: dict[str, Any] = {name: ["diffusers", kind] for name, kind in parts.items()}
    index |= {"_class_name": "StableDiffusionPipeline", "text_encoder": ["transformers", "CLIPTextModel"]}
    (place / "model_index.json").write_text(json.dumps(index))
    return place


@pytest.fixture(autouse=True)
def _own_workspace(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("FOUNDRY_PROFILE", "smoke")
    monkeypatch.setenv("FOUNDRY_HOME", str(tmp_path / "home"))
    monkeypatch.setattr("training.model_folders.text_encoding.CLIP_TOKENS", TOKENS)


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


def size_of(path: Path) -> tuple[int, int]:
    """Width and height of a picture file."""
    with Image.open(path) as image:
        return image.size


def test_layers_that_see_text_are_listed_in_order_of_execution(folder: Path) -> None:
    found = run("analyze", "SD3-medium", "--text-layers", "--json")
    rows = json.loads(found.stdout)
    assert [row["layer"] for row in rows] == list(range(24))
    assert rows[10]["module"] == "transformer_blocks.10.attn"
    assert rows[10]["key_value_parameters"] == 4_721_664
    assert f"{rows[10]['share']:.2%}" == "0.23%"
    own = json.loads(run("analyze", str(folder), "--text-layers", "--json").stdout)
    assert [row["module"].split(".")[0] for row in own] == [
        "down_blocks",
        "mid_block",
        "up_blocks",
        "up_blocks",
    ]
    assert "transformer_blocks.0.attn2" in run("analyze", str(folder), "--text-layers").stdout


def test_a_foreign_folder_is_swept_with_its_own_text_encoder(folder: Path, tmp_path: Path) -> None:
    pairs = tmp_path / "pairs.json"
    pairs.write_text(
        json.dumps([{"source": f'"{own}"', "target": f'"{other}"'} for own, other in ("AB", "CD", "EF")])
    )
    out = tmp_path / "out"
    found = run(
        "localize",
        str(folder),
        "--pairs",
        str(pairs),
        "--steps",
        "2",
        "--guidance",
        "2",
        "--json",
        "--out",
        str(out),
    )
    assert found.exception is None, found.exception
    (told,) = json.loads(found.stdout)
    assert [row["layer_index"] for row in told["rows"] if row["what"] == "layer"] == [0, 1, 2, 3]
    assert {row["name"] for row in told["rows"] if row["what"] == "reference"} == {
        "source",
        "target",
        "all layers",
    }
    assert {"layers", "share", "why"} == set(told["chosen"])
    assert "rapidocr" in told["rows"][0]["read_by"]
    assert size_of(out / "layers.png")[0] > 400
    assert size_of(out / "pictures.png")[1] > 400


def test_a_word_is_exchanged_by_named_layers(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "edited.png"
    told = (
        "--model",
        str(folder),
        "--prompt",
        'a "GO"',
        "--from",
        "GO",
        "--to",
        "NO",
        "--out",
        str(out),
        "--steps",
        "2",
    )
    found = run("edit-text", *told, "--layers", "0,3", "--json")
    assert found.exception is None, found.exception
    (row,) = json.loads(found.stdout)
    assert row["layers"][0].startswith("down_blocks")
    assert {"read_before", "read_after", "ssim", "psnr_db", "seconds", "read_by"} <= set(row)
    width, height = size_of(out)
    assert width > height


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("localize", "nowhere"), "'nowhere' is no folder of a pipeline and no model of this workspace"),
        (("localize", "{folder}", "--ocr", "rapid"), "--ocr is 'rapid'.*rapidocr"),
        (("localize", "{folder}", "--ocr", "easyocr"), "easyocr.*(not installed|no weights)"),
        (("localize", "{folder}", "--template", "a sign"), "--template is 'a sign'; write {word}"),
        (("localize", "{folder}", "--prompts", "sings"), "--prompts is 'sings'; did you mean 'signs'"),
        (
            ("localize", "{folder}", "--prompts", "simple", "--template", '"{word}"'),
            "each say what is asked; give one of them",
        ),
        (("studio", "--text-model", "nowhere"), "'nowhere' is no folder of a pipeline"),
        (("localize", "{folder}", "--pairs", "{folder}/none.json"), "none.json: cannot be read as JSON"),
        (
            ("localize", "{folder}", "--template", 'a very long sign that says "{word}"'),
            "fills the text encoder's 20 tokens",
        ),
        (("edit-text", "--prompt", "a cat", "--from", "GO", "--to", "NO"), "holds 'GO' 0 times"),
        (
            ("edit-text", "--prompt", '"GO"', "--from", "GO", "--to", "NO", "--layers", "unet.mid"),
            "text layer 'unet.mid' is not in this model",
        ),
        (("analyze", "SD3-mediun", "--text-layers"), "SD3-medium"),
    ],
)
def test_one_sentence_for_a_mistake(
    folder: Path, tmp_path: Path, arguments: tuple[str, ...], told: str
) -> None:
    filled = [part.replace("{folder}", str(folder)) for part in arguments]
    if filled[0] == "edit-text":
        filled += ["--model", str(folder), "--out", str(tmp_path / "x.png")]
    found = run(*filled)
    assert isinstance(found.exception, FoundryError)
    with pytest.raises(FoundryError, match=told):
        raise found.exception
