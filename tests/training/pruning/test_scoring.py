"""Every method through the one entry: what it counts, what it checks before work, and going on after an interruption."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, PNDMScheduler, UNet2DModel

from tests.training.pruning import families
from tests.training.pruning.stand_ins import BETAS, frozen, prompts_for
from training.backbones import blueprint
from training.conditioning import Condition
from training.diffusion.noise_process import Noising
from training.digests import canonical_json, sha256_bytes
from training.errors import FoundryError
from training.feed.latents import LatentBatch
from training.model_folders.denoiser import Denoiser
from training.pruning import METHODS, ScoredUnits, keep_best, masked, prune, score_units, unit_groups
from training.pruning import _resuming as resuming
from training.pruning.learning import MaskLearner
from training.pruning.scoring import _prompts_digest
from training.recipes.pruning import BlockRemovalOptions, PruningOptions, TaylorOptions

pytestmark = pytest.mark.filterwarnings("ignore:__array:DeprecationWarning")
STEPS, KINDS = 3, ("heads", "ffn")


def options_of(**changes: Any) -> PruningOptions:
    return PruningOptions(
        **{
            "prompts": 2,
            "epochs": 3,
            "accumulate": 1,
            "steps": STEPS,
            "guidance": 2.0,
            "logit_init": 1.0,
            "taylor": TaylorOptions(samples=3, noise_levels=4, threshold=0.0, batch_size=2),
            "block_removal": BlockRemovalOptions(prompts=2),
            **changes,
        }
    )


def denoiser_of(backbone: Any, scheduler: Any = None) -> Denoiser:
    own = scheduler or DDIMScheduler(**BETAS, clip_sample=False, prediction_type="v_prediction")
    return Denoiser(backbone, None, Noising("v"), scheduler=own)


def latents_for(count: int, channels: int = 16, width: int = 384) -> LatentBatch:
    draw = torch.Generator().manual_seed(5)
    shapes = [(count, channels, 8, 8), (count, 3, width)]
    latents, states = (torch.randn(*shape, generator=draw) for shape in shapes)
    condition = Condition(states, torch.ones(count, 3, dtype=torch.bool))
    return LatentBatch(latents, condition, np.zeros(count, np.int64))


class Said(list[str]):
    """Collects the log; breaks off at a line that begins with ``stop``."""

    def __init__(self, stop: str = "?") -> None:
        super().__init__()
        self.stop = stop

    def __call__(self, line: str) -> None:
        self.append(line)
        if line.startswith(self.stop):
            raise KeyboardInterrupt


def score(method: str, folder: Path, log: Any = None, **changes: Any) -> ScoredUnits:
    given: dict[str, Any] = {
        "backbone": None,
        "prompts": None,
        "latents": latents_for(3),
        "options": options_of(),
        "scheduler": None,
        "kinds": KINDS,
        "seed": 0,
        **changes,
    }
    backbone = given["backbone"] or frozen("PixArt-tiny", torch.float32)
    return score_units(
        method,
        denoiser_of(backbone, given["scheduler"]),
        given["prompts"] or prompts_for(frozen("PixArt-tiny"), 2),
        given["latents"],
        given["options"],
        kinds=given["kinds"],
        seed=given["seed"],
        folder=folder,
        log=log if log is not None else Said(),
        model_digest=given.get("model_digest", "abc"),
        latent_size=(8, 8),
    )


def test_taylor_tells_the_size_of_the_pictures_that_its_latents_are_of(tmp_path: Path) -> None:
    """An autoencoder that keeps a quarter of each side, beside the eighth of published ones."""
    backbone, told = frozen("SDXL-stock-tiny", torch.float32), []
    backbone.register_forward_pre_hook(
        lambda _, args, given: told.append(given["added_cond_kwargs"]["time_ids"][0].tolist()),
        with_kwargs=True,
    )
    latents = latents_for(3)
    pooled = replace(latents, condition=replace(latents.condition, pooled=torch.ones(3, 384)))
    own = SimpleNamespace(config={"block_out_channels": [8, 8, 8]})
    denoiser = replace(denoiser_of(backbone), autoencoder=own)
    prompts = prompts_for(backbone, 2)
    score_units(
        "taylor",
        denoiser,
        prompts,
        pooled,
        options_of(),
        kinds=("heads", "ffn"),
        seed=0,
        folder=tmp_path,
        log=Said(),
    )
    assert {tuple(sizes) for sizes in told} == {(32.0, 32.0, 0.0, 0.0, 32.0, 32.0)}


BLOCKS = 1
COUNTS = {
    # 6 draws of one prompt; a chain is 2 T - 1 evaluations for masked latents, and T for the targets of two prompts
    "ecodiff": (2 * (6 * (2 * STEPS - 1) + 2 * STEPS), 2 * 6 * STEPS),
    "per_step": (2 * (6 * 2 + 2 * STEPS), 2 * 6),
    "taylor": (3 * 4, 3 * 4),
    "magnitude": (0, 0),
    "random": (0, 0),
    "block_removal": (2 * STEPS * 2 * (1 + BLOCKS), 0),
}


@pytest.mark.parametrize("method", METHODS)
def test_every_method_scores_every_unit_and_counts_what_it_took(method: str, tmp_path: Path) -> None:
    backbone = frozen("PixArt-tiny", torch.float32)
    log = Said()
    found = score(method, tmp_path / "learning", log, backbone=backbone)
    groups = unit_groups(backbone, KINDS)
    assert len({group.name.rpartition(".")[0] for group in groups}) == BLOCKS
    assert [(key, len(value)) for key, value in found.scores.items()] == [
        (group.key, group.num_units) for group in groups
    ]
    assert (found.cost.network_evaluations, found.cost.backward_evaluations) == COUNTS[method]
    assert found.cost.seconds > 0
    assert found.cost.peak_memory_bytes >= 0
    learned = method in ("ecodiff", "per_step")
    assert [update.number for update in found.history] == (list(range(1, 7)) if learned else [])
    assert (tmp_path / "learning").exists() == learned
    prune(backbone, keep_best(found.scores, {"heads": 0.5, "ffn": 0.5}, "global"))
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in backbone.modules())
    if learned:
        assert log[-1].startswith(f"update 6 of 6: loss {found.history[-1].loss:.4g}, 0 s left")
        told = json.loads((tmp_path / "learning/progress.json").read_text())
        assert (told["update"], told["updates"], told["loss"]) == (6, 6, found.history[-1].loss)


@pytest.mark.parametrize("method", ["ecodiff", "per_step"])
def test_learned_scores_are_the_learner_s_logits(method: Any, tmp_path: Path) -> None:
    """The method decides the distance, whatever the options say."""
    other = "per_step" if method == "ecodiff" else "end_to_end"
    found = score(method, tmp_path, options=options_of(distance=other))
    backbone = frozen("PixArt-tiny", torch.float32)
    units: dict[str, dict[str, int]] = {"heads": {}, "ffn": {}}
    for group in unit_groups(backbone, KINDS):
        units[group.kind][group.name] = group.num_units
    distance = "per_step" if method == "per_step" else "end_to_end"
    learner = MaskLearner(
        denoiser_of(backbone),
        prompts_for(backbone, 2),
        units,
        partial(masked, kinds=KINDS),
        options_of(distance=distance),
        0,
        (8, 8),
    )
    history = tuple(learner.update() for _ in range(6))
    assert found.history == history
    assert all(torch.equal(value, learner.logits[kind][name]) for (kind, name), value in found.scores.items())


@pytest.mark.parametrize("method", ["ecodiff", "per_step"])
def test_an_interrupted_learning_goes_on_bit_by_bit(
    method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resuming, "SAVE_EVERY", 2)
    straight = score(method, tmp_path / "straight")
    with pytest.raises(KeyboardInterrupt):
        score(method, tmp_path / "broken", Said("update 5 of"))
    (state,) = (tmp_path / "broken").glob("learner-*.pt")
    before = torch.load(state, weights_only=True)["cost"]
    log = Said()
    found = score(method, tmp_path / "broken", log)
    assert log[0] == "4 of 6 updates were made before; going on from there"
    assert log[1].startswith("update 5 of 6")
    assert found.history == straight.history
    assert all(torch.equal(value, straight.scores[key]) for key, value in found.scores.items())
    assert found.cost.seconds > before["seconds"] > 0
    assert found.cost.backward_evaluations == straight.cost.backward_evaluations
    assert (
        found.cost.network_evaluations >= straight.cost.network_evaluations
    )  # dense samples are drawn again
    assert found.cost.peak_memory_bytes >= before["peak_memory_bytes"]

    done = score(method, tmp_path / "broken")
    assert done.cost == found.cost
    assert done.history == found.history
    assert all(torch.equal(value, straight.scores[key]) for key, value in done.scores.items())


def test_states_of_other_specifications_are_left_alone(tmp_path: Path) -> None:
    three = prompts_for(frozen("PixArt-tiny"), 3)
    first = score("ecodiff", tmp_path, prompts=three.part(0, 2))
    changed = replace(three, states=three.states + 1)
    variants: list[dict[str, Any]] = [
        {"seed": 1},
        {"model_digest": "def"},
        {"options": options_of(beta=0.1)},
        {"kinds": ("ffn",)},
        {"prompts": changed},
    ]
    for count, change in enumerate(variants, 2):
        other = score("ecodiff", tmp_path, **{"prompts": three, **change})
        assert len(list(tmp_path.glob("learner-*.pt"))) == count
        assert len(other.history) == 6
    # a further prompt that is not used, and options of other methods, are the same learning
    for same in (options_of(), options_of(check_replay=True, taylor=TaylorOptions(samples=9))):
        assert score("ecodiff", tmp_path, prompts=three, options=same).cost == first.cost


def test_a_damaged_state_is_told(tmp_path: Path) -> None:
    score("per_step", tmp_path)
    (path,) = tmp_path.glob("learner-*.pt")
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(FoundryError, match="cannot be read .*; remove it to learn from the start"):
        score("per_step", tmp_path)
    kept = torch.load(io.BytesIO(whole), weights_only=True)
    torch.save({**kept, "digest": "another"}, path)
    with pytest.raises(FoundryError, match="holds the state of another specification"):
        score("per_step", tmp_path)


def emptied(kind: str) -> Any:
    backbone = frozen("PixArt-tiny", torch.float32)
    groups = unit_groups(backbone, (kind,))
    return prune(backbone, {group.key: torch.zeros(group.num_units, dtype=torch.bool) for group in groups})


MISTAKES: list[tuple[str, str, dict[str, Any]]] = [
    ("tailor", "there is no 'tailor'; did you mean 'taylor'", {}),
    ("random", "kinds: 'norm' found, but only FLUX", {"kinds": ("norm",)}),
    ("random", "kinds: '' found", {"kinds": ()}),
    ("random", "the backbone has no units of 'heads' left", {"backbone": lambda: emptied("heads")}),
    (
        "ecodiff",
        "'ffn' is to be learned, but 'ffn_learning_rate' is 0",
        {"options": options_of(ffn_learning_rate=0)},
    ),
    ("ecodiff", "'prompts' is 3, but 2 are given", {"options": options_of(prompts=3)}),
    (
        "block_removal",
        "'block_removal.prompts' is 9, but 2",
        {"options": options_of(block_removal=BlockRemovalOptions(prompts=9))},
    ),
    ("taylor", "'samples' is 3, but 0 latents", {"latents": None}),
    ("taylor", "'samples' is 3, but 2 latents", {"latents": latents_for(2)}),
    ("taylor", "latents: 4 channels found, the backbone takes 16", {"latents": latents_for(3, 4)}),
    ("taylor", r"latents: text width .* are \(8, None\)", {"latents": latents_for(3, width=8)}),
    (
        "ecodiff",
        r"prompts: text width and pooled width are \(384, None\)",
        {"backbone": lambda: families.model_of("sdxl")},
    ),
    ("per_step", "a PNDMScheduler remembers more", {"scheduler": PNDMScheduler()}),
    ("block_removal", "a PNDMScheduler remembers more", {"scheduler": PNDMScheduler()}),
    ("magnitude", "is on the meta device", {"backbone": lambda: blueprint("PixArt-tiny")}),
    ("magnitude", "the backbone is a UNet2DModel; known are", {"backbone": lambda: tiny_unet()}),
]


def tiny_unet() -> Any:
    blocks = {"down_block_types": ("DownBlock2D",), "up_block_types": ("UpBlock2D",)}
    return UNet2DModel(8, block_out_channels=(32,), layers_per_block=1, **blocks)


@pytest.mark.parametrize(("method", "sentence", "changes"), MISTAKES)
def test_mistakes_are_told_before_any_work(
    method: str, sentence: str, changes: dict[str, Any], tmp_path: Path
) -> None:
    log = Said()
    if callable(changes.get("backbone")):
        changes = {**changes, "backbone": changes["backbone"]()}
    with pytest.raises(FoundryError, match=sentence):
        score(method, tmp_path / "none", log, **changes)
    assert not log
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("takes_pooled", [False, True])
def test_learning_is_found_again_by_the_digest_of_its_prompts(takes_pooled: bool) -> None:
    """Rows, then the null without the dimension of rows; pooled text where the backbone takes it."""
    random = np.random.default_rng(0)
    states, mask = random.normal(size=(3, 4, 5)).astype(np.float32), np.ones((3, 4), np.bool_)
    pooled = random.normal(size=(3, 6)).astype(np.float32)
    parts = [
        states[:2],
        mask[:2],
        states[2],
        mask[2],
        *((pooled[:2], pooled[2]) if takes_pooled else (None,) * 2),
    ]
    told = [
        None if part is None else [str(part.dtype), list(part.shape), sha256_bytes(part.tobytes())]
        for part in parts
    ]
    prompts = Condition.of_arrays(states, mask, pooled).last_as_null()
    found = _prompts_digest(prompts, 6 if takes_pooled else None)
    assert found == sha256_bytes(canonical_json(told).encode())
