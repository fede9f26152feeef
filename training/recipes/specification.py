"""What is trained (inside the hash) and how it is run here (outside the hash).

A *recipe* is what a person writes in YAML. A *training specification* is the resolved recipe with the
content digests of all it reads; its sha256 is the *spec hash*, the identity of the run. *Execution* holds
settings that do not change what a run means: device, threads, log and checkpoint intervals, input places.
This module is light: it imports no torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

from pydantic import Field, field_validator, model_validator

from training.digests import canonical_json, sha256_bytes
from training.errors import FoundryError
from training.recipes.adapters import LoraOptions, OptimizerOptions
from training.recipes.dataset import DatasetSelection
from training.recipes.objectives import OBJECTIVES, ObjectiveRow, with_objective_sections
from training.recipes.section import Fraction, Positive, Section

TRAINING_SEMANTICS_VERSION = 2
"""Raise when the same specification would train to other weights: every run hash changes with it."""

NAME_PATTERN = r"^[a-z0-9][a-z0-9._-]{0,63}$"

DIGEST_PATTERN = r"^[0-9a-f]{64}$"

SigmaRel = Annotated[float, Field(gt=0, le=0.288)]

Digest = Annotated[str, Field(pattern=DIGEST_PATTERN)]

Options = TypeVar("Options", bound=Section)

if TYPE_CHECKING:
    ObjectiveName = str
else:
    ObjectiveName = Literal[tuple(OBJECTIVES)]


@with_objective_sections
class Recipe(Section):
    """One training as a person describes it. Everything is counted in images seen, never in steps.

    Each objective of :data:`training.recipes.objectives.OBJECTIVES` adds an optional section of its name.
    """

    name: str = Field(
        pattern=NAME_PATTERN, description="partition key: lower case letters, digits, dot, dash"
    )
    objective: ObjectiveName = "diffusion"
    backbone: str | None = Field(
        default=None, description="registry name, see `foundry backbones`; its parent's where left out"
    )
    parent: str | None = Field(
        default=None, pattern=NAME_PATTERN, description="recipe whose published weights this one starts from"
    )
    dataset: DatasetSelection = DatasetSelection()
    images_total: Positive
    warmup_images: int = Field(default=0, ge=0, le=10**12)
    batch_size: int = Field(default=32, ge=1, le=65536)
    micro_batches: int = Field(
        default=1, ge=1, le=4096, description="gradient accumulation: parts of one batch"
    )
    learning_rate: float = Field(gt=0, le=10)
    schedule: Literal["constant", "cosine"] = "constant"
    final_learning_rate_fraction: Fraction = Field(
        default=0.0, description="cosine: rate at the end over the peak rate"
    )
    weight_decay: float = Field(default=0.01, ge=0, le=10)
    betas: tuple[Fraction, Fraction] = (0.9, 0.999)
    adam_epsilon: float = Field(default=1e-8, gt=0, le=1)
    clip_norm: float | None = Field(default=1.0, gt=0, le=1e6)
    ema_half_life_images: Positive | None = Field(
        default=None, description="half life of the weight average; None for none"
    )
    power_ema_sigma_rels: tuple[SigmaRel, ...] = Field(
        default=(),
        max_length=4,
        description="widths of power-function averages; two let any width follow later",
    )
    power_ema_every_images: Positive | None = Field(
        default=None, description="keep the power-function averages after every so many images"
    )
    seed: int = Field(default=0, ge=0, lt=2**63)
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    optimizer: OptimizerOptions = OptimizerOptions()
    lora: LoraOptions | None = Field(
        default=None,
        description="train low-rank adapters beside the parent's weights; None trains all weights",
    )
    base_format: Literal["fp32", "bf16", "int8"] = Field(
        default="fp32",
        description="frozen linear layers: as they are; while a branch trains in bf16, in bf16; while adapters train, in 8 bits",
    )

    @property
    def objective_row(self) -> ObjectiveRow:
        """What is known of the recipe's objective."""
        return OBJECTIVES[self.objective]

    def options_of(self, kind: type[Options]) -> Options:
        """The section of the recipe's objective. Raises FoundryError where the objective has another one."""
        options = getattr(self, self.objective)
        if not isinstance(options, kind):
            wanted = next(row.name for row in OBJECTIVES.values() if row.options is kind)
            raise FoundryError(
                f"recipe '{self.name}': objective is '{self.objective}', which lacks the section '{wanted}'; name a "
                f"recipe of objective '{wanted}'"
            )
        return options

    def settings(self) -> dict[str, Any]:
        """The recipe as plain data, for hashes and provenance.

        Sections of other objectives, which are never there, do not count: a new objective changes no older run.
        """
        others = {name for name in OBJECTIVES if name != self.objective}
        return self.model_dump(mode="json", exclude=others)

    @model_validator(mode="before")
    @classmethod
    def _fill_own_section(cls, values: Any) -> Any:
        """Resolve the defaults of the objective's own section, so that they are part of the hash."""
        if isinstance(values, Mapping):
            own = values.get("objective", "diffusion")
            if own in OBJECTIVES and values.get(own) is None:
                return {**values, own: {}}
        return values

    @model_validator(mode="after")
    def _check_together(self) -> Recipe:
        for name in OBJECTIVES:
            if name != self.objective and getattr(self, name) is not None:
                raise ValueError(
                    f"section '{name}' does not belong to objective '{self.objective}'; remove it"
                )
        self._check_start()
        self._check_adapters()
        hidden = getattr(getattr(self, self.objective), "has_hidden_matrices", self.objective_row.takes_muon)
        if self.optimizer.name == "muon" and not hidden:
            raise ValueError(
                f"'optimizer' is 'muon', which takes the hidden matrices of a model's blocks; objective "
                f"'{self.objective}' has none or tells none apart, say adamw"
            )
        if self.warmup_images > self.images_total:
            raise ValueError(
                f"'warmup_images' is {self.warmup_images}, above images_total {self.images_total}; lower it"
            )
        self.dataset.check_batches(self.batch_size)
        if self.power_ema_every_images and not self.power_ema_sigma_rels:
            raise ValueError(
                "'power_ema_every_images' needs widths; give power_ema_sigma_rels, such as [0.05, 0.1]"
            )
        if self.batch_size % self.micro_batches:
            raise ValueError(
                f"'micro_batches' is {self.micro_batches}; batch_size {self.batch_size} must be its multiple"
            )
        return self

    def _check_start(self) -> None:
        """A backbone by name, a parent's, or both where they agree; other objectives know neither."""
        starts = self.objective_row.takes_backbone
        if starts and self.backbone is None and self.parent is None:
            raise ValueError(f"'backbone' is None; objective '{self.objective}' needs backbone or parent")
        if self.objective_row.needs_parent and self.parent is None:
            raise ValueError(
                f"'parent' is None; objective '{self.objective}' needs parent, the model that it starts from"
            )
        for name in () if starts else ("backbone", "parent"):
            if getattr(self, name) is not None:
                raise ValueError(
                    f"'{name}' is {getattr(self, name)!r}; objective '{self.objective}' takes no {name}"
                )

    def _check_adapters(self) -> None:
        """Adapters sit beside a parent's weights, and only frozen weights can be stored in 8 bits."""
        if self.lora is not None and (not self.objective_row.takes_lora or self.parent is None):
            able = " or ".join(f"'{row.name}'" for row in OBJECTIVES.values() if row.takes_lora)
            raise ValueError(
                f"'lora' adapts a parent's weights under objective {able}; found parent {self.parent!r} and "
                f"objective '{self.objective}'; name a parent or remove lora"
            )
        if self.base_format == "int8" and self.lora is None:
            raise ValueError(
                "'base_format' is 'int8', which holds frozen weights alone; add a section lora or say fp32"
            )
        if self.base_format == "bf16" and not (self.objective_row.freezes_base and self.precision == "bf16"):
            able = " or ".join(f"'{row.name}'" for row in OBJECTIVES.values() if row.freezes_base)
            raise ValueError(
                f"'base_format' is 'bf16', which holds the base beside a branch that trains in bf16, found objective "
                f"'{self.objective}' and precision '{self.precision}'; take objective {able} and precision bf16, or say fp32"
            )


class TrainingSpecification(Section):
    """The resolved recipe with the digests of all it reads. Its sha256 names the run."""

    recipe: Recipe
    inputs: dict[str, Digest] = Field(
        description="content digests: dataset, autoencoder, text_encoder, parent, ..."
    )
    semantics_version: int = TRAINING_SEMANTICS_VERSION

    @field_validator("semantics_version")
    @classmethod
    def _known_version(cls, version: int) -> int:
        if version != TRAINING_SEMANTICS_VERSION:
            raise ValueError(
                f"this code trains semantics version {TRAINING_SEMANTICS_VERSION}; make a new run"
            )
        return version

    @model_validator(mode="after")
    def _parent_is_an_input(self) -> TrainingSpecification:
        name = self.recipe.parent
        if (name is None) == ("parent" in self.inputs):
            rule = "drop the input" if name is None else "give the digest of its model folder"
            raise ValueError(f"recipe '{self.recipe.name}' has parent {name!r}; 'inputs.parent': {rule}")
        return self

    def canonical_json(self) -> str:
        """The one spelling that is hashed and written to ``spec.json``."""
        return canonical_json({**self.model_dump(mode="json"), "recipe": self.recipe.settings()})

    @property
    def spec_hash(self) -> str:
        """sha256 (hex) of the canonical JSON."""
        return sha256_bytes(self.canonical_json().encode())
