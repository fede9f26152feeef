"""The sections of a recipe that say how units are scored, masks learned (EcoDiff), and the official code's settings by model.

This module is light: it imports no torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from training.errors import FoundryError
from training.recipes.section import Positive, Section
from training.recipes.validation import nearest, validate

Kind = Literal["heads", "ffn", "norm"]
KINDS: tuple[Kind, ...] = ("heads", "ffn", "norm")
"""What is masked: attention heads, feed-forward neurons, channels of adaptive layer norm."""

Method = Literal["ecodiff", "per_step", "taylor", "magnitude", "random", "block_removal"]
METHODS: tuple[Method, ...] = ("ecodiff", "per_step", "taylor", "magnitude", "random", "block_removal")
"""How units are scored: by masks learned end to end or per step, or by one of the baselines."""

LEARNED_METHODS: tuple[Method, ...] = ("ecodiff", "per_step")
"""The methods whose scores are logits of learned masks."""


def method_named(name: str) -> Method:
    """A method by its name. Raises FoundryError for an unknown one."""
    found = next((method for method in METHODS if method == name), None)
    if found is None:
        raise FoundryError(f"method: there is no '{name}'; {nearest(name, METHODS)}")
    return found


Rate = Annotated[float, Field(ge=0, le=100)]


class TaylorOptions(Section):
    """Options of Taylor scores (Diff-Pruning, arXiv 2305.10924); the official code has 128 pictures and 1000 levels."""

    samples: Positive = Field(default=128, description="latents with captions, the first so many given")
    noise_levels: int = Field(
        default=100, ge=1, le=1000, description="levels t = (k + 1/2) / number, from low noise to high"
    )
    threshold: float = Field(
        default=0.05,
        ge=0,
        lt=1,
        description="the first level with L_t / L_max below it ends the sum; 0: none",
    )
    batch_size: Positive = Field(
        default=16, description="latents at a time; changes no score but by rounding"
    )


class BlockRemovalOptions(Section):
    """Options of block removal; sampling steps, guidance and first noise are those of mask learning."""

    prompts: Positive = Field(default=8, description="prompts to compare samples of, the first so many given")


class PruningOptions(Section):
    """Options of mask learning (EcoDiff, arXiv 2412.02852); defaults are the official code's for SDXL.

    Each prompt's loss is mean((z0_dense - z0_masked)^2) + beta (R_heads + R_ffn + R_norm); gradients of ``accumulate``
    prompts are summed. A kind whose learning rate is 0 is left unmasked.
    """

    alpha: float = Field(default=0.83, gt=0, le=100, description="temperature of the relaxation")
    zeta: float = Field(default=1.1, gt=1, le=10, description="upper end of the stretched interval")
    gamma: float = Field(default=-0.1, ge=-10, lt=0, description="lower end of the stretched interval")
    delta: float = Field(
        default=0.5, gt=0, le=100, description="bounds the noise to +-ln((1 + delta) / delta)"
    )
    logit_init: float = Field(default=3.0, ge=-100, le=100, description="where every logit starts")
    regulariser: Literal["l1", "sigmoid", "l0"] = Field(
        default="l1",
        description="mean over layers of the mean |logit|, of sigmoid(scale logit + offset), or Louizos' expected L0",
    )
    sigmoid_scale: float = Field(default=0.4, gt=0, le=100, description="of regulariser 'sigmoid'")
    sigmoid_offset: float = Field(default=1.0, ge=-100, le=100, description="of regulariser 'sigmoid'")
    beta: float = Field(default=0.5, ge=0, le=1e6, description="weight of the regularisers")
    heads_learning_rate: Rate = 0.1
    ffn_learning_rate: Rate = 0.1
    norm_learning_rate: Rate = 0.0
    weight_decay: float = Field(
        default=0.01, ge=0, le=100, description="AdamW's: pulls logits towards 0 beside the regulariser"
    )
    prompts: Positive = Field(default=100, description="prompts to learn from, the first so many given")
    epochs: Positive = Field(default=4, description="how often each prompt is met")
    accumulate: Positive = Field(default=4, description="prompts whose gradients are summed for an update")
    steps: int = Field(default=50, ge=1, le=1000, description="sampling steps T of the chain")
    guidance: float = Field(
        default=5.0, ge=0, le=100, description="of dense and masked samples; 1 and less is none"
    )
    initial_noise: Literal["shared", "per_prompt"] = Field(
        default="shared", description="one z_T for all prompts, as in the official code, or one for each"
    )
    check_replay: bool = Field(
        default=False, description="compare each recomputed state with the stored one, bit by bit"
    )
    distance: Literal["end_to_end", "per_step"] = Field(
        default="end_to_end",
        description="between final latents, or between predictions at one random step of the dense chain",
    )
    taylor: TaylorOptions = Field(default=TaylorOptions(), description="of Taylor scores alone")
    block_removal: BlockRemovalOptions = Field(
        default=BlockRemovalOptions(), description="of block removal alone"
    )

    @model_validator(mode="after")
    def _something_to_learn(self) -> PruningOptions:
        if not any(self.learning_rates.values()):
            raise ValueError(
                "'heads_learning_rate', 'ffn_learning_rate' and 'norm_learning_rate' are all 0; give one a rate"
            )
        return self

    @property
    def learning_rates(self) -> dict[Kind, float]:
        """By kind of unit."""
        rates = (self.heads_learning_rate, self.ffn_learning_rate, self.norm_learning_rate)
        return dict(zip(KINDS, rates, strict=True))

    @property
    def updates(self) -> int:
        """Updates of the whole learning: 100 for 4 epochs of 100 prompts; the last may look beyond the last epoch."""
        return -(-self.epochs * self.prompts // self.accumulate)


_FLUX: Mapping[str, Any] = MappingProxyType(
    {
        "delta": 0.1,
        "regulariser": "sigmoid",
        "beta": 0.01,
        "heads_learning_rate": 0.5,
        "ffn_learning_rate": 0.1,
        "norm_learning_rate": 0.5,
        "guidance": 3.5,
    }
)

PRESETS: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "SDXL": {},
        "FLUX.1-schnell": {**_FLUX, "steps": 5},
        "FLUX.1-dev": _FLUX,
        "SD2": {
            "epochs": 3,
            "beta": 1.0,
            "heads_learning_rate": 0.2,
            "ffn_learning_rate": 0.2,
            "logit_init": 2.5,
        },
        "SD3.5-large": {
            "delta": 1.0,
            "prompts": 256,
            "steps": 40,
            "heads_learning_rate": 0.2,
            "ffn_learning_rate": 0.2,
            "logit_init": 4.0,
        },
    }
)
"""What the official code sets otherwise than for SDXL, by model. Guidance of SD2 and SD3.5 is not told; SDXL's stands."""


def pruning_preset(name: str, **changes: Any) -> PruningOptions:
    """The official settings of a model, with changes. Raises FoundryError for an unknown name or a wrong change."""
    if name not in PRESETS:
        raise FoundryError(f"pruning: there are no settings for '{name}'; {nearest(name, list(PRESETS))}")
    return validate(PruningOptions, {**PRESETS[name], **changes}, f"pruning settings of '{name}'")
