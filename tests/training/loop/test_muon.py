"""Muon: against torch's own and a slow reference, over families, resumed, and by two processes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.training.conftest import RunMaker
from tests.training.loop.test_parallelism import EXECUTION, assert_same
from tests.training.teams import fork_team
from training.backbones import blueprint, hidden_matrices
from training.errors import FoundryError, TrainingStopped
from training.loop.muon import NEWTON_SCHULZ, Muon, orthogonalised, scale_of
from training.loop.optimizer import build_optimizer
from training.recipes.files import load_recipe
from training.run import run

SETTINGS: dict[str, Any] = {
    "lr": 0.01,
    "momentum": 0.9,
    "weight_decay": 0.1,
    "betas": (0.9, 0.99),
    "eps": 1e-8,
    "matrix_rate": 3.0,
}
FIRST_AND_LAST = {
    "PixArt-tiny": ("pos_embed.proj", "caption_projection.linear_1", "proj_out", "adaln_single.linear"),
    "UNet-tiny": ("conv_in", "conv_out", "time_embedding.linear_1", "time_emb_proj"),
    "SDXL-tiny": ("conv_in", "time_embedding.linear_1", "conv_out"),
    "SD3-tiny": ("pos_embed.proj", "context_embedder", "proj_out", "norm1.linear", "norm1_context.linear"),
    "FLUX-tiny": ("x_embedder", "context_embedder", "norm.linear", "norm1.linear", "norm_out.linear"),
}


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_singular_values_come_near_one_and_vectors_stay() -> None:
    for shape in ((3, 16, 40), (2, 40, 16), (1, 8, 8)):
        matrices = drawn(*shape)
        found = orthogonalised(matrices)
        assert found.shape == matrices.shape
        left, _, right = torch.linalg.svd(matrices, full_matrices=False)
        values = left.mT @ found @ right.mT
        diagonal = values.diagonal(dim1=-2, dim2=-1)
        torch.testing.assert_close(values, torch.diag_embed(diagonal), atol=1e-4, rtol=0)
        assert 0.3 < float(diagonal.min()) <= float(diagonal.max()) < 1.3


def test_bfloat16_gives_the_same_within_its_rounding() -> None:
    """Used where the forward pass is in bf16; weights and momentum stay in float32."""
    matrices = drawn(2, 24, 40)
    found = orthogonalised(matrices, in_bfloat16=True)
    assert found.dtype == torch.float32
    assert 0 < float((found - orthogonalised(matrices)).norm() / found.norm()) < 0.05
    for precision, wanted in (("bf16", True), ("fp32", False)):
        recipe = load_recipe({**_recipe(), "precision": precision})
        matrix = nn.Parameter(drawn(4, 4))
        built = build_optimizer(recipe, nn.ParameterList([matrix]), [matrix])
        assert isinstance(built, Muon)
        assert built.in_bfloat16 is wanted


def test_many_at_once_are_each_alone_in_float64() -> None:
    matrices = drawn(4, 12, 30)
    a, b, c = NEWTON_SCHULZ
    for matrix, found in zip(matrices, orthogonalised(matrices), strict=True):
        x = matrix.double() / matrix.double().norm()
        for _ in range(5):
            x = a * x + b * (x @ x.T) @ x + c * (x @ x.T) @ (x @ x.T) @ x
        torch.testing.assert_close(found, x.float(), atol=1e-5, rtol=1e-4)


def test_it_follows_torch_s_own() -> None:
    """Which works in bfloat16: steps agree to a few percent of their size."""
    ours, theirs = (nn.Parameter(drawn(24, 16)) for _ in range(2))
    first = Muon([ours], [], **SETTINGS)
    second = torch.optim.Muon(
        [theirs], lr=0.03, momentum=0.9, weight_decay=0.1, adjust_lr_fn="match_rms_adamw"
    )
    for step in range(6):
        ours.grad, theirs.grad = drawn(24, 16, seed=step), drawn(24, 16, seed=step)
        first.step()
        second.step()
    moved = (ours - drawn(24, 16)).norm()
    assert float((ours - theirs).norm() / moved) < 0.03


def test_a_kernel_is_a_matrix_and_other_parameters_are_adamw_s() -> None:
    kernel, flat = nn.Parameter(drawn(8, 4, 3, 3)), nn.Parameter(drawn(8, 36))
    bias, same = nn.Parameter(drawn(8)), nn.Parameter(drawn(8))
    others = [{"params": [bias], "weight_decay": 0.0}]
    ours = Muon([kernel, flat], others, **SETTINGS)
    theirs = torch.optim.AdamW([same], lr=0.01, betas=(0.9, 0.99), eps=1e-8, weight_decay=0.0)
    with torch.no_grad():
        flat.copy_(kernel.flatten(1))
    for step in range(3):
        kernel.grad = drawn(8, 4, 3, 3, seed=step)
        flat.grad = kernel.grad.flatten(1)
        bias.grad, same.grad = drawn(8, seed=step), drawn(8, seed=step)
        ours.step()
        theirs.step()
    torch.testing.assert_close(kernel.flatten(1), flat)
    torch.testing.assert_close(bias, same)
    assert scale_of(flat) == pytest.approx(1.2)


@pytest.mark.parametrize("name", FIRST_AND_LAST)
def test_hidden_matrices_are_those_of_blocks(name: str) -> None:
    model = blueprint(name)
    names = {id(parameter): key for key, parameter in model.named_parameters()}
    hidden = [names[id(matrix)] for matrix in hidden_matrices(model)]
    assert len(hidden) == len(set(hidden)) > 0
    assert all(dict(model.named_parameters())[key].ndim >= 2 for key in hidden)
    for part in FIRST_AND_LAST[name]:
        assert any(f"{part}.weight" in key for key in names.values()), part
        assert not any(f"{part}." in key for key in hidden), part
    attention = [key for key in names.values() if key.endswith(("to_q.weight", "to_v.weight"))]
    assert set(attention) <= set(hidden)
    flat = hidden_matrices(model, convolutions=False)
    assert {matrix.ndim for matrix in flat} == {2}
    assert (len(flat) < len(hidden)) == name.startswith(("UNet", "SDXL"))


def test_every_parameter_is_in_one_group() -> None:
    recipe = load_recipe(_recipe())
    model = blueprint("SD3-tiny")
    optimizer = build_optimizer(recipe, model, hidden_matrices(model))
    grouped = [id(parameter) for group in optimizer.param_groups for parameter in group["params"]]
    assert sorted(grouped) == sorted(id(parameter) for parameter in model.parameters())
    with pytest.raises(FoundryError, match="'some': optimizer 'muon' found no hidden matrix"):
        build_optimizer(recipe, model)


@pytest.mark.parametrize("backbone", ["UNet-tiny", "SD3-tiny"])
def test_an_interrupted_run_ends_bit_equal(runs: RunMaker, backbone: str) -> None:
    recipe: dict[str, Any] = {"backbone": backbone, "optimizer": {"name": "muon"}, "images_total": 24}
    whole, stopped = runs.prepare("whole", **recipe), runs.prepare("stopped", **recipe)
    run(whole.path)
    asked = iter([False, False, False, True])
    with pytest.raises(TrainingStopped):
        run(stopped.path, lambda: next(asked))
    run(stopped.path)
    first, second = whole.read_done(), stopped.read_done()
    assert first is not None
    assert first.model_digest == second.model_digest  # type: ignore[union-attr]


def test_both_rates_are_in_the_metrics(runs: RunMaker) -> None:
    rows = {}
    for name, optimizer in (("adamw", {"name": "adamw"}), ("muon", {"name": "muon", "matrix_rate": 3.0})):
        folder = runs.prepare(name, backbone="PixArt-tiny", images_total=16, optimizer=optimizer)
        run(folder.path)
        rows[name] = folder.read_metrics().to_pylist()
    assert "matrix_learning_rate" not in rows["adamw"][0]
    for row in rows["muon"]:
        assert row["matrix_learning_rate"] == pytest.approx(3 * row["learning_rate"])


def test_two_processes_train_as_one(runs: RunMaker) -> None:
    recipe: dict[str, Any] = {
        "optimizer": {"name": "muon"},
        "images_total": 31,
        "batch_size": 10,
        "micro_batches": 2,
        "ema_half_life_images": 20,
    }
    alone = runs.prepare("alone", EXECUTION, **recipe)
    run(alone.path)
    teams = [
        runs.prepare(strategy, {**EXECUTION, "world_size": 2, "strategy": strategy}, **recipe)
        for strategy in ("ddp", "fsdp")
    ]
    fork_team(*teams)
    for folder in teams:
        assert_same(folder, alone)


def test_recipes_say_what_muon_is_for() -> None:
    plain = load_recipe({**_recipe(), "optimizer": {"name": "adamw"}}).settings()
    assert plain["optimizer"] == {"name": "adamw"}, "the hash of older runs holds no option of Muon"
    assert load_recipe(_recipe()).settings()["optimizer"]["momentum"] == 0.95
    with pytest.raises(FoundryError, match="'momentum' is an option of optimizer 'muon', found 'adamw'"):
        load_recipe({**_recipe(), "optimizer": {"name": "adamw", "momentum": 0.9}})
    with pytest.raises(FoundryError, match="objective 'contrastive' has none or tells none apart, say adamw"):
        load_recipe({**_recipe(), "backbone": None, "objective": "contrastive"})
    box_aligned_alone = {"branch": {"kind": "none", "box_aligned": True}}
    with pytest.raises(FoundryError, match="objective 'layout' has none or tells none apart, say adamw"):
        load_recipe(
            {**_recipe(), "backbone": None, "objective": "layout", "parent": "p", "layout": box_aligned_alone}
        )


def _recipe() -> dict[str, Any]:
    return {
        "name": "some",
        "backbone": "SD3-tiny",
        "images_total": 8,
        "learning_rate": 1e-3,
        "optimizer": {"name": "muon"},
    }
