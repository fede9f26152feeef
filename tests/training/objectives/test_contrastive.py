"""The contrastive objective learns, its folder reloads, and open_clip itself loads it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from training.digests import folder_digest
from training.errors import FoundryError
from training.model_folders.contrastive import ContrastiveModel, WordVocabulary
from training.model_folders.probe import reload_equals_saved
from training.objectives.contrastive import ContrastiveObjective, _shift
from training.randomness import Draw
from training.recipes.execution import Execution
from training.recipes.files import load_recipe
from training.recipes.specification import TrainingSpecification
from training.run import run
from training.run_folder import RunFolder, prepare
from training.shards import write_image_shards

COLORS = {"red": (220, 30, 30), "green": (30, 200, 30), "blue": (30, 30, 220), "white": (250, 250, 250)}


@pytest.fixture
def scorer_run(tmp_path: Path) -> RunFolder:
    images = np.stack([np.full((32, 32, 3), color, np.uint8) for color in COLORS.values()] * 4)
    samples = pa.table({"sample_id": [str(i) for i in range(16)], "split": ["judge"] * 16})
    captions = [[f"a {name} wall"] for name in list(COLORS) * 4]
    write_image_shards(tmp_path / "data", samples, images, captions)
    recipe = {
        "name": "judge",
        "objective": "contrastive",
        "images_total": 640,
        "batch_size": 8,
        "learning_rate": 3e-3,
        "dataset": {"splits": ["judge"]},
        "contrastive": {
            "embed_dim": 16,
            "image_width": 8,
            "image_head_width": 8,
            "text_width": 16,
            "text_heads": 2,
        },
    }
    spec = TrainingSpecification(
        recipe=load_recipe(recipe), inputs={"dataset": folder_digest(tmp_path / "data")}
    )
    execution = Execution(device="cpu", input_paths={"dataset": str(tmp_path / "data")})
    return prepare(tmp_path / "runs", spec, execution)


def test_it_learns_which_caption_belongs(scorer_run: RunFolder) -> None:
    run(scorer_run.path)
    assert reload_equals_saved(scorer_run.model) == pytest.approx(0, abs=1e-6)
    model = ContrastiveModel.load(scorer_run.model)
    images = np.stack([np.full((32, 32, 3), color, np.uint8) for color in COLORS.values()])
    scores = model.embed_images(images) @ model.embed_texts([f"a {name} wall" for name in COLORS]).T
    assert list(scores.argmax(1)) == [0, 1, 2, 3]
    assert np.allclose(np.linalg.norm(model.embed_images(images), axis=1), 1, atol=1e-5)


@pytest.mark.filterwarnings("ignore")
def test_open_clip_loads_the_folder(scorer_run: RunFolder) -> None:
    import open_clip

    run(scorer_run.path)
    stock = open_clip.create_model(f"local-dir:{scorer_run.model}").eval()
    ours = ContrastiveModel.load(scorer_run.model)
    images = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), dtype=np.uint8)
    pixels = (torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255 - 0.5) / 0.25
    with torch.no_grad():
        found = stock.encode_image(pixels, normalize=True).numpy()
    np.testing.assert_allclose(found, ours.embed_images(images), atol=1e-4)


def test_equal_captions_are_no_negatives(scorer_run: RunFolder) -> None:
    objective = ContrastiveObjective(scorer_run.read_spec(), scorer_run.read_execution(), "cpu")
    objective.module.eval()
    draw = Draw(0, np.zeros(4, np.int64), np.array([0, 4, 8, 12]))  # four times the same picture and caption
    loss, scalars = objective.loss(objective.load(draw), draw)
    assert float(loss.detach()) == pytest.approx(np.log(4), abs=1e-3)  # the least that a shared target allows
    assert scalars["batch_accuracy"] == 1


def test_shift_moves_and_repeats_edges() -> None:
    images = np.arange(2 * 3 * 8 * 8, dtype=np.float32).reshape(2, 3, 8, 8)
    draw = Draw(0, np.zeros(2, np.int64), np.arange(2))
    moved = _shift(images, 2, draw)
    padded = np.pad(images, ((0, 0), (0, 0), (2, 2), (2, 2)), mode="edge")
    for row in range(2):
        windows = [padded[row, :, y : y + 8, x : x + 8] for y in range(5) for x in range(5)]
        assert any(np.array_equal(moved[row], window) for window in windows)
    assert _shift(images, 0, draw) is images


def test_vocabulary() -> None:
    words = WordVocabulary.of(["a red cat", "says ZOO!"])
    assert words.words == ("!", "a", "cat", "red", "says", "zoo")
    tokens = words.encode(["A red dog", "a " * 30], 5)
    end = words.size - 1
    assert list(tokens[0]) == [3, 5, 1, end, 0]
    assert list(tokens[1]) == [3, 3, 3, 3, end]
    assert tokens.max(1).tolist() == [end, end]


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FoundryError, match=r"open_clip_config\.json: missing"):
        ContrastiveModel.load(tmp_path)
