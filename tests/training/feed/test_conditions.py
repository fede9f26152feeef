"""Text states stored, encoded in the step, or ahead of it: the same numbers, and the same run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from tests.training.conftest import RunMaker
from training.digests import OUTSIDE_MODEL_DIGEST, folder_digest
from training.errors import FoundryError
from training.feed.conditions import EncodedAhead, EncodedInStep, StoredTexts
from training.feed.latents import LatentFeed
from training.packaged_models import minilm_digest
from training.randomness import Draw, SampleOrder
from training.recipes.files import load_recipe
from training.recipes.specification import TrainingSpecification
from training.run import run
from training.shards import TrainingShards, write_training_shards
from training.text_encoders import MiniLMEncoder

CAPTIONS = [
    ["a red apple", "one apple"],
    ["a blue fish on a green ground", "fish"],
    ["two cats", "cats"],
    ["sky", "x"],
]
TOKENS = 16


@pytest.fixture(scope="module")
def encoder() -> MiniLMEncoder:
    torch.set_num_threads(1)
    return MiniLMEncoder(max_tokens=TOKENS)


@pytest.fixture(scope="module")
def folder(
    tmp_path_factory: pytest.TempPathFactory, encoder: MiniLMEncoder, autoencoder_folder: Path
) -> Path:
    """Eight samples, their captions as words and as MiniLM's states."""
    target = tmp_path_factory.mktemp("words") / "shards"
    captions = CAPTIONS * 2
    texts = ["", *dict.fromkeys(word for row in captions for word in row)]
    encoded = encoder.encode(texts)
    write_training_shards(
        target,
        pa.table({"sample_id": [f"s{i}" for i in range(8)], "split": ["train"] * 8, "captions": captions}),
        np.random.default_rng(0).normal(size=(8, 16, 8, 8)).astype(np.float16),
        np.arange(0, 17, 2, dtype=np.int64),
        np.array([texts.index(word) for row in captions for word in row], np.int64),
        encoded.states,
        encoded.lengths,
        encoded.pooled,
        null_text_index=0,
        autoencoder_digest=folder_digest(autoencoder_folder, OUTSIDE_MODEL_DIGEST),
        text_encoder_digest=encoder.digest,
        max_tokens=TOKENS,
    )
    return target


@pytest.fixture
def makes(tmp_path: Path, folder: Path, autoencoder_folder: Path) -> RunMaker:
    return RunMaker(tmp_path, folder, autoencoder_folder)


def spec_of(folder: Path, **recipe: Any) -> TrainingSpecification:
    values = {
        "name": "x",
        "backbone": "PixArt-tiny",
        "images_total": 24,
        "learning_rate": 1e-3,
        "batch_size": 4,
    }
    return TrainingSpecification(
        recipe=load_recipe({**values, **recipe}),
        inputs={"dataset": folder_digest(folder), "text_encoder": minilm_digest(TOKENS)},
    )


def test_stored_and_encoded_states_agree_to_rounding(folder: Path, encoder: MiniLMEncoder) -> None:
    shards = TrainingShards.open(folder)
    stored = StoredTexts(shards, "cpu", pooled=True)
    in_step = EncodedInStep(shards, encoder, "cpu", pooled=True)
    texts = shards.text_of(np.array([1, 0, 3, 1]), np.array([0, 1, 1, 0]))
    for pad_to in (None, TOKENS):
        expected, found = stored.get(np.append(texts, 0), pad_to), in_step.get(np.append(texts, 0), pad_to)
        assert found.states.dtype == torch.float16
        assert torch.equal(expected.mask, found.mask)
        # float16 keeps 11 bits: one unit in the last place of values up to 8
        torch.testing.assert_close(found.states, expected.states, rtol=2**-10, atol=2**-10)
        assert found.pooled is not None
        torch.testing.assert_close(found.pooled, expected.pooled, rtol=2**-10, atol=2**-10)
        equal = (found.states == expected.states).float().mean()
        assert equal > 0.99  # most are the same bits


def batches(feed: LatentFeed, starts: range) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    order = feed.build_order()
    for start in starts:
        batch = feed.load(order.draw(start, 4), 0.25)
        yield batch.condition.states, batch.condition.mask


def test_ahead_gives_the_bits_of_in_the_step(folder: Path, makes: RunMaker) -> None:
    text_encoder = {"max_tokens": TOKENS}
    feeds = [
        LatentFeed(spec_of(folder), makes.execution(text_mode=mode, text_encoder=text_encoder), "cpu")
        for mode in ("step", "stage")
    ]
    starts = range(0, 48, 4)
    order = feeds[1].build_order()
    feeds[1].look_ahead((order.draw(start, 4) for start in starts), 0.25)
    for expected, found in zip(batches(feeds[0], starts), batches(feeds[1], starts), strict=True):
        assert torch.equal(expected[0], found[0])
        assert torch.equal(expected[1], found[1])
    feeds[1].close()


def test_a_batch_that_was_not_foreseen_is_encoded_at_once(folder: Path, encoder: MiniLMEncoder) -> None:
    shards = TrainingShards.open(folder)
    source = EncodedInStep(shards, encoder, "cpu")
    ahead = EncodedAhead(source, depth=2)
    order = SampleOrder(0, 8)
    drawn = [order.draw(start, 4) for start in range(0, 24, 4)]

    def texts_of(draw: Draw) -> np.ndarray:
        return shards.text_of(draw.rows, np.zeros(4, np.int64))

    ahead.start(iter(drawn[1:]), texts_of, None)
    for draw in (drawn[0], drawn[1], drawn[4], drawn[2], drawn[5]):  # early, right, skipped two, late, right
        found = ahead.get_for(draw, texts_of(draw), None)
        assert torch.equal(found.states, source.get(texts_of(draw), None).states)
    ahead.close()


def test_an_error_of_the_thread_reaches_the_loop(folder: Path, encoder: MiniLMEncoder) -> None:
    ahead = EncodedAhead(EncodedInStep(TrainingShards.open(folder), encoder, "cpu"), depth=2)

    def broken(draw: Draw) -> np.ndarray:
        raise FoundryError("the disk is gone")

    draw = SampleOrder(0, 8).draw(0, 4)
    ahead.start(iter([draw]), broken, None)
    with pytest.raises(FoundryError, match="the disk is gone"):
        ahead.get_for(draw, np.zeros(4, np.int64), None)


def test_runs_in_all_modes_end_alike(makes: RunMaker, folder: Path) -> None:
    finals = {}
    for mode in ("stored", "step", "stage"):
        execution = {"text_mode": mode, "text_encoder": {"max_tokens": TOKENS}, "sample_every_images": 16}
        from training.run_folder import prepare

        spec = spec_of(folder, micro_batches=2)
        inputs = {**spec.inputs, "autoencoder": folder_digest(makes.autoencoder, OUTSIDE_MODEL_DIGEST)}
        target = prepare(
            makes.root / mode, spec.model_copy(update={"inputs": inputs}), makes.execution(**execution)
        )
        run(target.path)
        done = target.read_done()
        assert done is not None
        finals[mode] = (done.model_digest, done.final_loss)
        counts = target.read_metrics().to_pydict()
        assert sum(sum(values) for name, values in counts.items() if name.startswith("count_caption")) == 24
    assert finals["step"] == finals["stage"]
    assert finals["stored"][1] == pytest.approx(finals["step"][1], rel=1e-3)


def test_data_that_cannot_be_encoded_is_refused(folder: Path, makes: RunMaker, shards_folder: Path) -> None:
    with pytest.raises(
        FoundryError, match="made for text_encoder .* name that encoder, with the same settings"
    ):
        LatentFeed(spec_of(folder), makes.execution(text_mode="step"), "cpu")
    bare = TrainingSpecification(recipe=spec_of(folder).recipe, inputs={})
    paths = {"dataset": str(shards_folder)}
    with pytest.raises(FoundryError, match="holds no words"):
        LatentFeed(bare, makes.execution(text_mode="stage", input_paths=paths), "cpu")
