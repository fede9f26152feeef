"""A branch is trained beside its frozen base, on layouts that lie beside the data."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file

from tests.training.conftest import RunMaker
from training.digests import OUTSIDE_MODEL_DIGEST, folder_digest
from training.errors import FoundryError, TrainingStopped
from training.layout.entities import Entity
from training.layout.folders import load_branch
from training.layout.shards import LayoutShards, placed_of, write_layout_shards
from training.model_folders.denoiser import Denoiser, sample_with
from training.model_folders.parents import load_backbone
from training.model_folders.probe import reload_equals_saved
from training.objectives.layout import LayoutObjective
from training.randomness import SampleOrder
from training.recipes.execution import Execution
from training.recipes.files import load_recipe
from training.recipes.layout import BRANCH
from training.recipes.specification import TrainingSpecification
from training.run import run
from training.run_folder import RunFolder, prepare
from training.shards import TrainingShards
from training.text_encoders import MiniLMEncoder, TextEncoder

WEIGHTS = "transformer/diffusion_pytorch_model.safetensors"
MAX_BOXES = 3
COUNTS = (0, 1, 2, 4)  # entities of one sample after the other: none, some, and more than are taken


@pytest.fixture(scope="module")
def encoder() -> MiniLMEncoder:
    return MiniLMEncoder()


def layouts_of(shards: Path) -> list[list[Entity]]:
    """Entities of every sample of a dataset, drawn with a fixed seed."""
    random = np.random.default_rng(0)
    count = TrainingShards.open(shards).description.num_samples
    made = []
    for row in range(count):
        entities = []
        for number in range(COUNTS[row % len(COUNTS)]):
            x, y = random.uniform(0, 0.5, 2)
            w, h = random.uniform(0.2, 0.5, 2)
            entities.append(Entity(f"a {['red', 'blue'][number % 2]} car", (x, y, x + w, y + h)))
        made.append(entities)
    return made


@pytest.fixture
def layouts(runs: RunMaker, tmp_path: Path, encoder: MiniLMEncoder) -> Path:
    folder = tmp_path / "layouts"
    write_layout_shards(folder, layouts_of(runs.shards), encoder, folder_digest(runs.shards))
    return folder


@pytest.fixture
def taught(runs: RunMaker) -> RunMaker:
    """Runs with a parent of SD3's layout."""
    folder = runs.prepare(
        "parents", name="base", backbone="SD3-tiny", images_total=8, diffusion={"prediction": "clean"}
    )
    run(folder.path)
    runs.parent = folder.model
    return runs


def both(runs: RunMaker, layouts: Path, **recipe: Any) -> tuple[TrainingSpecification, Execution]:
    """Specification and execution of a layout recipe."""
    branch = {"kind": "siam", "max_boxes": MAX_BOXES, "rank": 4, **recipe.pop("branch", {})}
    options = {"branch": branch, **recipe.pop("layout", {})}
    settings = {
        "name": "layout",
        "objective": "layout",
        "parent": "base",
        "backbone": None,
        "layout": options,
        **recipe,
    }
    spec, execution = runs.spec(**settings), runs.execution()
    places = {**execution.input_paths, "layout": str(layouts)}
    return (
        spec.model_copy(update={"inputs": {**spec.inputs, "layout": folder_digest(layouts)}}),
        execution.model_copy(update={"input_paths": places}),
    )


def trained(runs: RunMaker, layouts: Path, **recipe: Any) -> RunFolder:
    folder = prepare(runs.root / "runs", *both(runs, layouts, **recipe))
    run(folder.path)
    return folder


@pytest.mark.parametrize("branch", [{"box_aligned": True}, {"kind": "siam_lora"}, {"kind": "joint"}])
def test_the_branch_learns_and_the_base_stays(
    taught: RunMaker, layouts: Path, branch: dict[str, Any]
) -> None:
    options = {"compare_every_images": 8}
    folder = trained(taught, layouts, branch=branch, layout=options, learning_rate=0.01)
    assert taught.parent is not None
    before, after = load_file(taught.parent / WEIGHTS), load_file(folder.model / WEIGHTS)
    assert {name for name in after if name not in before} == {name for name in after if "layout" in name}
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())
    assert reload_equals_saved(folder.model) == pytest.approx(0, abs=1e-6)
    digest = folder_digest(taught.parent, OUTSIDE_MODEL_DIGEST)
    again = load_branch(load_backbone(taught.parent), folder.model / "layout_branch", digest).state_dict()
    assert all(torch.equal(again[name], tensor) for name, tensor in after.items())
    assert (folder.model / "layout_branch" / BRANCH).stat().st_size < (folder.model / WEIGHTS).stat().st_size
    rows = [
        row for part in sorted(folder.metrics.glob("*.parquet")) for row in pq.read_table(part).to_pylist()
    ]
    assert rows[-1]["layout_effect"] > rows[0]["layout_effect"] >= 0
    if branch.get("kind") != "joint":
        assert rows[-1]["branch_output_rms"] > rows[0]["branch_output_rms"] >= 0


def test_a_base_in_bf16_costs_the_result_nothing(taught: RunMaker, layouts: Path) -> None:
    """The branch learns beside a base of half the bytes; what is exported is the parent, bit for bit, with the branch."""
    formats = {"precision": "bf16", "base_format": "bf16"}
    spec, execution = both(taught, layouts, branch={"kind": "siam_lora"}, learning_rate=0.01, **formats)
    own = LayoutObjective(spec, execution, "cpu")
    frozen = [p for p in own.module.parameters() if not p.requires_grad and p.ndim >= 2]
    assert {parameter.dtype for parameter in frozen} == {torch.bfloat16}
    assert {p.dtype for p in own.module.parameters() if p.requires_grad} == {torch.float32}
    sampled = execution.model_copy(update={"sample_every_images": 16, "sample_steps": 2})
    folder = prepare(taught.root / "runs", spec, sampled)
    run(folder.path)
    assert list(folder.samples.glob("*.png"))
    assert taught.parent is not None
    before, after = load_file(taught.parent / WEIGHTS), load_file(folder.model / WEIGHTS)
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())
    assert any(after[name].any() for name in after if name.endswith("layout.output.up.weight"))
    assert reload_equals_saved(folder.model) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize(
    ("recipe", "says"),
    [
        ({"precision": "fp32"}, "found objective 'layout' and precision 'fp32'"),
        ({"objective": "diffusion", "layout": None, "precision": "bf16"}, "found objective 'diffusion'"),
    ],
)
def test_a_base_in_bf16_needs_a_branch_that_trains_in_it(recipe: dict[str, Any], says: str) -> None:
    settings = {"name": "a", "objective": "layout", "parent": "p", "images_total": 8, "learning_rate": 1e-3}
    with pytest.raises(FoundryError, match=says):
        load_recipe({**settings, "base_format": "bf16", **recipe})


def test_a_trained_branch_at_strength_0_draws_what_its_base_draws(
    taught: RunMaker, layouts: Path, encoder: MiniLMEncoder
) -> None:
    folder = trained(taught, layouts, learning_rate=0.01)
    assert taught.parent is not None
    entities = [[Entity("a red car", (0.1, 0.1, 0.6, 0.6))], [Entity("a blue car", (0.0, 0.5, 1.0, 1.0))] * 3]
    told = placed_of(entities, encoder, MAX_BOXES, 1)
    prompts = encoder.prompts(["a car", "cars"])
    assert prompts.null is not None
    none = told.left_out().each(lambda rows: rows[:1])
    pictures = {}
    for name, strength, model in (
        ("base", None, taught.parent),
        ("off", 0.0, folder.model),
        ("on", 1.0, folder.model),
    ):
        layout = None if strength is None else replace(told, strength=strength)
        own = (
            prompts
            if layout is None
            else replace(prompts, layout=layout, null=replace(prompts.null, layout=none))
        )
        pictures[name] = sample_with(Denoiser.load(model), own, [1, 2], 3, 2.0)
    assert np.array_equal(pictures["off"], pictures["base"])
    assert not np.array_equal(pictures["on"], pictures["base"])


def test_a_run_that_was_stopped_ends_as_one_that_was_not(
    taught: RunMaker, layouts: Path, tmp_path: Path
) -> None:
    whole = trained(taught, layouts, optimizer={"name": "muon"})
    spec, execution = both(taught, layouts, optimizer={"name": "muon"})
    parted = prepare(tmp_path / "again", spec, execution)
    asked = iter([False] * 4 + [True])
    with pytest.raises(TrainingStopped):
        run(parted.path, lambda: next(asked))
    run(parted.path)
    found, wanted = (load_file(folder.model / WEIGHTS) for folder in (parted, whole))
    assert all(torch.equal(found[name], tensor) for name, tensor in wanted.items())


def objective(runs: RunMaker, layouts: Path, **options: Any) -> LayoutObjective:
    spec, execution = both(runs, layouts, layout=options)
    return LayoutObjective(spec, execution, "cpu")


def draw_of(own: LayoutObjective, batch: int = 16) -> Any:
    return SampleOrder(3, own.num_samples).draw(0, batch)


def test_text_layout_and_both_are_left_out_of_shares_of_a_batch(taught: RunMaker, layouts: Path) -> None:
    own = objective(taught, layouts, text_dropout=0.3, layout_dropout=0.2, both_dropout=0.25)
    draw = draw_of(own, 64)
    chance = draw.uniform("caption_dropout")
    batch = own.load(draw)
    layout = batch.condition.layout
    assert layout is not None
    had = own.layouts.placed(own.rows[draw.rows], MAX_BOXES).there.any(dim=1).numpy()
    assert np.array_equal(batch.captions == -1, chance < 0.55)
    left_out = (chance >= 0.3) & (chance < 0.75)
    assert np.array_equal(layout.there.any(dim=1).numpy(), had & ~left_out)
    assert {bool(a) for a in left_out & had} == {True, False}


def test_errors_in_boxes_weigh_more(taught: RunMaker, layouts: Path) -> None:
    own = objective(taught, layouts, region_weight=3.0, text_dropout=0, layout_dropout=0, both_dropout=0)
    draw = draw_of(own)
    batch = own.load(draw)
    noised = own.noised(batch, draw)
    with torch.no_grad():
        squared = (
            own.predict(own.module, noised.noisy, noised.level, noised.condition) - own.data_target(noised)
        ) ** 2
        layout = batch.condition.layout
        assert layout is not None
        weights = torch.ones(len(squared), 1, *squared.shape[-2:])
        height, width = squared.shape[-2:]
        for row in range(len(squared)):
            for (x1, y1, x2, y2), there in zip(
                layout.boxes_xyxy_norm[row].tolist(), layout.there[row], strict=True
            ):
                for y in range(height):
                    for x in range(width):
                        if (
                            there
                            and x / width < x2
                            and (x + 1) / width > x1
                            and y / height < y2
                            and (y + 1) / height > y1
                        ):
                            weights[row, 0, y, x] = 3.0
        wanted = (squared * weights).mean() / weights.mean()
        found, scalars = own.loss(batch, draw)
    torch.testing.assert_close(found, wanted)
    inside = (weights > 1).expand_as(squared)
    torch.testing.assert_close(scalars["loss_inside_boxes"], squared[inside].mean())


def test_power_levels_have_their_density(taught: RunMaker, layouts: Path) -> None:
    own = objective(taught, layouts, time_sampling="power", power=1.4)
    levels = torch.cat([own.draw_levels(SampleOrder(seed, 512).draw(0, 256)) for seed in range(16)])
    for t in (0.25, 0.5, 0.75):  # the distribution function of a t^(a - 1) is t^a
        assert float((levels < t).float().mean()) == pytest.approx(t**1.4, abs=0.02)


def test_layouts_of_another_dataset_are_refused(
    taught: RunMaker, tmp_path: Path, encoder: MiniLMEncoder
) -> None:
    other = tmp_path / "other"
    write_layout_shards(other, layouts_of(taught.shards), encoder, "c" * 64)
    spec, execution = both(taught, other)
    with pytest.raises(FoundryError, match="made for the dataset cccccccccccc…"):
        LayoutObjective(spec, execution, "cpu")
    empty = tmp_path / "empty"
    none: list[list[Entity]] = [[] for _ in layouts_of(taught.shards)]
    write_layout_shards(empty, none, encoder, folder_digest(taught.shards))
    with pytest.raises(FoundryError, match="holds no entity"):
        LayoutObjective(*both(taught, empty), "cpu")
    with pytest.raises(FoundryError, match=r"layouts.json: cannot be read"):
        LayoutShards.open(tmp_path / "none")


def test_layouts_come_back_padded_and_phrases_are_encoded_once(
    taught: RunMaker, layouts: Path, encoder: MiniLMEncoder
) -> None:
    shards = LayoutShards.open(layouts)
    wanted = layouts_of(taught.shards)
    assert shards.description.num_phrases == 2
    assert (shards.description.most_entities, shards.description.num_cut_phrases) == (4, 0)
    rows = np.arange(len(wanted))
    found = shards.placed(rows, MAX_BOXES)
    same = placed_of([layout[:MAX_BOXES] for layout in wanted], encoder, MAX_BOXES, 1)
    assert torch.equal(found.there, same.there)
    torch.testing.assert_close(found.boxes_xyxy_norm, same.boxes_xyxy_norm)
    torch.testing.assert_close(found.phrases, same.phrases, atol=1e-3, rtol=1e-2)
    assert [entity.phrase for entity in shards.entities(3)] == [entity.phrase for entity in wanted[3]]


@pytest.mark.parametrize("encoder_class", [MiniLMEncoder, TextEncoder])
def test_no_text_is_encoded_inside_a_training(
    taught: RunMaker, layouts: Path, encoder_class: type[TextEncoder], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Phrases and captions were encoded once, before: no encoder is built and none is asked."""

    def asked(*_: Any, **__: Any) -> None:
        raise AssertionError("a text was encoded")

    names = ("__init__", "encode_batch") if encoder_class is MiniLMEncoder else ("encode", "prompts")
    for name in names:
        monkeypatch.setattr(encoder_class, name, asked)
    folder = trained(taught, layouts, branch={"box_aligned": True}, images_total=16)
    assert folder.model.is_dir()


def test_a_phrase_that_fills_the_encoder_is_told(
    taught: RunMaker, tmp_path: Path, encoder: MiniLMEncoder
) -> None:
    made = layouts_of(taught.shards)
    made[0] = [Entity("very " * 60 + "red car", (0.0, 0.0, 1.0, 1.0))]
    about = write_layout_shards(tmp_path / "long", made, encoder, folder_digest(taught.shards))
    assert about.num_cut_phrases == 1
