"""How much a backbone's features change from block to block, on real noised latents.

A block whose output points where its input did adds little; KOALA (arXiv 2312.04005) found that layers of one
transformer grow alike with depth, and kept the lower ones.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from training.backbones import TRANSFORMER_BLOCKS, denoise
from training.conditioning import Condition
from training.diffusion.noise_process import Noising
from training.errors import FoundryError

BLOCKS = (*TRANSFORMER_BLOCKS, "ResnetBlock2D")
GRID = 4  # features are compared on at most so many rows and columns
NOISE_LEVELS = (0.2, 0.5, 0.8)


@dataclass(frozen=True)
class NoisedBatch:
    """Clean latents, what is told of them, and fixed noise, shared by all noise levels."""

    latents: Float[Tensor, "b c h w"]
    noise: Float[Tensor, "b c h w"]
    condition: Condition


@dataclass(frozen=True)
class BlockSimilarity:
    """One block at one noise level t in [0, 1].

    ``cosine``: mean over tokens of the cosine between its input and output; None where their shapes differ.
    ``cka``: linear centred kernel alignment in [0, 1] with every block, in the order of the pass.
    """

    level: float
    index: int
    block: str
    cosine: float | None
    cka: tuple[float, ...]


def block_similarities(
    model: nn.Module, noising: Noising, batch: NoisedBatch, levels: tuple[float, ...] = NOISE_LEVELS
) -> list[BlockSimilarity]:
    """Similarities of all blocks at each noise level. Raises FoundryError when the model has no block we know."""
    found = []
    for level in levels:
        captured = _features(model, noising, batch, level)
        if not captured:
            raise FoundryError(
                f"{type(model).__name__} holds none of the blocks {', '.join(BLOCKS)}; "
                "similarity across depth is told of these"
            )
        cka = cka_matrix(_rows([features for _, features in captured.values()]))
        found += [
            BlockSimilarity(level, index, name, cosine, tuple(cka[index].tolist()))
            for index, (name, (cosine, _)) in enumerate(captured.items())
        ]
    return found


def cka_matrix(features: list[Float[Tensor, "rows _"]]) -> Float[Tensor, "n n"]:
    """Linear CKA between all pairs: ||Y^T X||_F^2 / (||X^T X||_F ||Y^T Y||_F), columns centred (Kornblith 2019, eq. 3).

    Features that do not vary are alike to nothing: 0.
    """
    centred = [matrix.double() - matrix.double().mean(dim=0) for matrix in features]
    grams = torch.stack(
        [(matrix @ matrix.mT).flatten() for matrix in centred]
    )  # rows x rows: <K, L> = ||Y^T X||^2
    products = grams @ grams.mT
    norms = products.diagonal().clamp_min(0).sqrt()
    alike = products / (norms[:, None] * norms).clamp_min(torch.finfo(torch.float64).tiny)
    return alike.clamp(0, 1)


Captured = dict[str, tuple[float | None, Tensor]]


@torch.inference_mode()
def _features(model: nn.Module, noising: Noising, batch: NoisedBatch, level: float) -> Captured:
    """Cosine and pooled output features of every block, by name, in the order of the pass."""
    captured: Captured = {}
    t = torch.full((len(batch.latents),), level, device=batch.latents.device)
    noisy = noising.add_noise(batch.latents, batch.noise, t)
    with _captured(model, captured):
        denoise(model, noisy, noising.timestep(t), batch.condition)
    return captured


@contextmanager
def _captured(model: nn.Module, captured: Captured) -> Iterator[None]:
    """While it lasts, blocks leave what they were given and gave."""

    def keep(name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any], output: Any) -> None:
        given = _tokens(kwargs["hidden_states"] if "hidden_states" in kwargs else args[0])
        gave = _tokens(output[1] if isinstance(output, tuple) else output)
        cosine = None
        if given.shape == gave.shape:
            cosine = float(nn.functional.cosine_similarity(given.float(), gave.float(), dim=-1).mean())
        captured[name] = (cosine, _pooled(gave.float()))

    handles = [
        module.register_forward_hook(
            lambda _, args, kwargs, output, name=name: keep(name, args, kwargs, output), with_kwargs=True
        )
        for name, module in model.named_modules()
        if type(module).__name__ in BLOCKS
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _tokens(features: Tensor) -> Float[Tensor, "b tokens c"]:
    return features.flatten(2).mT if features.ndim == 4 else features


def _pooled(tokens: Float[Tensor, "b tokens c"]) -> Float[Tensor, "b c rows columns"]:
    """Features averaged to at most GRID x GRID places; over all tokens where they form no square."""
    side = math.isqrt(tokens.shape[1])
    if side * side != tokens.shape[1]:
        return tokens.mean(dim=1)[..., None, None]
    maps = tokens.mT.unflatten(2, (side, side))
    return nn.functional.adaptive_avg_pool2d(maps, min(side, GRID))


def _rows(features: list[Tensor]) -> list[Float[Tensor, "rows _"]]:
    """Features of all blocks on the grid that the coarsest has: one row a sample and place."""
    grid = min(maps.shape[-1] for maps in features)
    pooled = [nn.functional.adaptive_avg_pool2d(maps, grid) for maps in features]
    return [maps.flatten(2).mT.flatten(0, 1) for maps in pooled]
