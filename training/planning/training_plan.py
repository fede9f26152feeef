"""One training planned: what its recipe and the machine that a person names come to. Figures of time are projected."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import get_args

from training.backbones import blueprint, family_of, latent_shape, pooled_dim, text_dim
from training.errors import FoundryError
from training.loop.precision import FORMATS
from training.planning.compute import Compute, Rate, branch_compute, compute_of
from training.planning.gpu_memory import Memory, Shares, Sizes, Strategy, memory_of, sizes_of, state_bytes
from training.planning.gpus import USABLE_SHARE, Gpu, gpu_named
from training.planning.simulation import Setting
from training.planning.storage import (
    ENCODERS,
    Encoder,
    TextCost,
    captions_used,
    checkpoint_bytes,
    export_bytes,
    latent_bytes,
    text_costs,
)
from training.recipes.adapters import OptimizerName, OptimizerOptions
from training.recipes.execution import Execution
from training.recipes.layout import LayoutOptions, LayoutTrainingOptions
from training.recipes.specification import Recipe

DEFAULT_MFU = 0.35
PRECISIONS = ("fp32", *FORMATS)
OPTIMIZERS: tuple[str, ...] = get_args(OptimizerName)
PLANNED = ("diffusion", "layout")
PHRASE_TOKENS = {"FLUX": 30}
"""Token states of a phrase by family, as released (CreatiLayout); the others take its pooled vector."""
KEPT_CHECKPOINTS = int(Execution.model_fields["keep_checkpoints"].default)


@dataclass(frozen=True)
class Machine:
    """What a person says about where a recipe would run; None takes the recipe's own.

    ``price``: of one GPU-hour, in whatever currency. ``images``: size of the data set, for storage. ``latent_size``: height
    and width of the latents, ``tokens``: of a text; None for the backbone's own and its encoder's.
    """

    gpus: int = 1
    strategy: str = "ddp"
    batch_per_gpu: int | None = None
    precision: str | None = None
    checkpointing: bool = False
    gpu: str = "h100"
    mfu: float = DEFAULT_MFU
    price: float | None = None
    images: int | None = None
    optimizer: str | None = None
    latent_size: int | None = None
    tokens: int | None = None

    def __post_init__(self) -> None:
        if self.gpus < 1:
            raise FoundryError(f"--gpus is {self.gpus}; give 1 or more")
        if self.strategy not in get_args(Strategy):
            raise FoundryError(f"--strategy is '{self.strategy}'; allowed are ddp, fsdp")
        if self.strategy == "fsdp" and self.gpus == 1:
            raise FoundryError(
                "--strategy is 'fsdp' with one GPU, where there is nothing to share; raise --gpus, or say ddp"
            )
        if self.precision is not None and self.precision not in PRECISIONS:
            raise FoundryError(f"--precision is '{self.precision}'; allowed are {', '.join(PRECISIONS)}")
        if not 0 < self.mfu <= 1:
            raise FoundryError(
                f"--mfu is {self.mfu:g}; give the share of the GPU's peak that is used, above 0 and at most 1"
            )
        if self.price is not None and self.price < 0:
            raise FoundryError(f"--price is {self.price:g}; give the price of one GPU-hour, 0 or more")
        if self.images is not None and self.images < 1:
            raise FoundryError(f"--images is {self.images}; give the number of images of the data set")
        if self.optimizer is not None and self.optimizer not in OPTIMIZERS:
            raise FoundryError(f"--optimizer is '{self.optimizer}'; allowed are {', '.join(OPTIMIZERS)}")
        for name, count in (("latent-size", self.latent_size), ("tokens", self.tokens)):
            if count is not None and count < 1:
                raise FoundryError(f"--{name} is {count}; give 1 or more, or leave it out")
        gpu_named(self.gpu)


@dataclass(frozen=True)
class Remedy:
    """A change that was checked, and what memory it leads to."""

    change: str
    total_bytes: float
    fits: bool


@dataclass(frozen=True)
class Storage:
    """Bytes on disk for a data set of ``images`` with ``captions`` each, and for what a run keeps."""

    images: int
    captions: int
    latents: int
    texts: tuple[TextCost, ...]
    encoder: Encoder
    checkpoints: int
    exports: int
    averages: int


@dataclass(frozen=True)
class Plan:
    """A recipe on a machine."""

    recipe: Recipe
    backbone: str
    setting: Setting
    shares: Shares
    gpu: Gpu
    mfu: float
    price: float | None
    size: Sizes
    memory: Memory
    compute: Compute
    storage: Storage | None

    @property
    def usable_bytes(self) -> float:
        """Memory that a training may fill."""
        return self.gpu.memory_bytes * USABLE_SHARE

    @property
    def fits(self) -> bool:
        """Whether the planned peak stays within the usable memory."""
        return self.memory.total <= self.usable_bytes

    @property
    def cost(self) -> float | None:
        """GPU-hours times price."""
        return None if self.price is None else self.compute.gpu_hours * self.price

    @property
    def encoding_rate(self) -> Rate:
        """How fast texts are taken to be encoded: in bf16, forward only, at the same utilisation."""
        return Rate(self.gpu, self.shares.gpus, self.mfu, "bf16", checkpointing=False)


def plan_recipe(recipe: Recipe, machine: Machine) -> Plan:
    """Plan one training from scratch, or of a layout branch, whose recipe names the backbone that it is grown on.

    Raises FoundryError for another objective, a machine that cannot share the optimiser, or shares that do not divide the batch.
    """
    if recipe.objective not in PLANNED or recipe.backbone is None:
        raise FoundryError(
            f"recipe '{recipe.name}': objective is '{recipe.objective}'; plans are made for 'diffusion' and 'layout', whose "
            "backbone is registered"
        )
    if machine.optimizer is not None:
        recipe = recipe.model_copy(
            update={"optimizer": OptimizerOptions.model_validate({"name": machine.optimizer})}
        )
    _check_optimizer(recipe, machine)
    shares = shares_of(recipe, machine)
    gpu = gpu_named(machine.gpu)
    encoder = ENCODERS.get(text_dim(blueprint(recipe.backbone).config))
    setting = setting_of(recipe, machine, encoder)
    size = sizes_of(setting)
    images = machine.images or recipe.dataset.max_samples
    return Plan(
        recipe=recipe,
        backbone=setting.backbone,
        setting=setting,
        shares=shares,
        gpu=gpu,
        mfu=machine.mfu,
        price=machine.price,
        size=size,
        memory=memory_of(setting, shares, num_averages(recipe), recipe.optimizer),
        compute=_compute(
            recipe, setting, Rate(gpu, machine.gpus, machine.mfu, setting.precision, machine.checkpointing)
        ),
        storage=_storage(recipe, images, setting, encoder, size) if images and encoder else None,
    )


def setting_of(recipe: Recipe, machine: Machine, encoder: Encoder | None) -> Setting:
    """What the live bytes and the work of a recipe's step depend on."""
    precision = machine.precision or recipe.precision
    return Setting(
        str(recipe.backbone),
        precision,
        machine.checkpointing,
        latent_size=machine.latent_size,
        num_tokens=machine.tokens or (encoder.tokens if encoder else 77),
        branch=branch_of(recipe),
        base_format="bf16" if recipe.base_format == precision == "bf16" else "fp32",
    )


def branch_of(recipe: Recipe) -> LayoutOptions | None:
    """The branch that a layout recipe trains on its backbone, phrases as that family's encoders give them; None for others."""
    if recipe.objective != "layout":
        return None
    model = blueprint(str(recipe.backbone))
    tokens = PHRASE_TOKENS.get(family_of(model).name, 1)
    pooled = pooled_dim(model.config) if tokens == 1 else None
    own = recipe.options_of(LayoutTrainingOptions).branch
    return LayoutOptions(
        **own.model_dump(), phrase_dim=pooled or text_dim(model.config), tokens_per_entity=tokens
    )


def _compute(recipe: Recipe, setting: Setting, rate: Rate) -> Compute:
    images, size = recipe.images_total, setting.latent_size
    if setting.branch is None:
        return compute_of(setting.backbone, images, rate, latent_size=size, num_tokens=setting.num_tokens)
    every = recipe.options_of(LayoutTrainingOptions).compare_every_images
    return branch_compute(setting, images, rate, compared=min(1.0, recipe.batch_size / every))


def _check_optimizer(recipe: Recipe, machine: Machine) -> None:
    if machine.strategy == "fsdp" and recipe.optimizer.name == "adamw8bit":
        raise FoundryError(
            f"recipe '{recipe.name}': optimizer 'adamw8bit' keeps whole tensors and cannot share them under fsdp; say "
            "--strategy ddp or --optimizer adamw"
        )


def num_averages(recipe: Recipe) -> int:
    """Running averages that the loop keeps."""
    return len(recipe.power_ema_sigma_rels) + (recipe.ema_half_life_images is not None)


def shares_of(recipe: Recipe, machine: Machine) -> Shares:
    """How a step's images are spread. Raises FoundryError where they do not divide."""
    batch, gpus = recipe.batch_size, machine.gpus
    if batch % gpus:
        raise FoundryError(
            f"recipe '{recipe.name}': batch_size {batch} is no multiple of --gpus {gpus}; choose a divisor of the batch"
        )
    passes = recipe.micro_batches
    per_pass = machine.batch_per_gpu
    if per_pass is not None:
        if per_pass < 1 or batch % (gpus * per_pass):
            raise FoundryError(
                f"recipe '{recipe.name}': --batch-per-gpu is {per_pass}; batch_size {batch} must be a multiple of "
                f"--gpus {gpus} times it, as with {largest_divisor(batch // gpus, max(per_pass, 1))}"
            )
        passes = batch // (gpus * per_pass)
    elif batch % (gpus * passes):
        raise FoundryError(
            f"recipe '{recipe.name}': batch_size {batch} is no multiple of --gpus {gpus} times micro_batches {passes}; "
            "give --batch-per-gpu, or fewer GPUs"
        )
    strategy: Strategy = "fsdp" if machine.strategy == "fsdp" else "ddp"
    return Shares(gpus, strategy, batch // (gpus * passes), passes)


def largest_divisor(number: int, at_most: int) -> int:
    """The largest divisor of ``number`` that is not above ``at_most``."""
    return next(n for n in range(min(at_most, number), 0, -1) if number % n == 0)


def remedies(plan: Plan) -> list[Remedy]:
    """What would make a plan fit, each checked: the first of every kind that fits, else the furthest it can go."""
    found = []
    named, strategy = plan.recipe.optimizer.name, plan.shares.strategy
    kinds = [(False, strategy, named), (True, strategy, named)]
    if strategy == "ddp" and named != "adamw8bit":
        if plan.shares.gpus > 1:
            kinds += [(False, "fsdp", named), (True, "fsdp", named)]
        kinds += [(False, strategy, "adamw8bit"), (True, strategy, "adamw8bit")]
    for checkpointing, strategy, optimizer in kinds:
        if checkpointing < plan.setting.checkpointing:
            continue
        found.append(_first_that_fits(plan, checkpointing, strategy, optimizer))
    return [remedy for remedy in found if remedy is not None]


def _first_that_fits(
    plan: Plan, checkpointing: bool, strategy: Strategy, optimizer: OptimizerName
) -> Remedy | None:
    """Fewer and fewer images a pass, under one kind of change."""
    setting = replace(plan.setting, checkpointing=checkpointing)
    named = plan.recipe.optimizer.name
    options = plan.recipe.optimizer if optimizer == named else OptimizerOptions(name=optimizer)
    start, remedy = plan.shares.images_per_pass, None
    per_pass = start
    while True:
        shares = replace(
            plan.shares,
            strategy=strategy,
            images_per_pass=per_pass,
            passes=plan.shares.passes * start // per_pass,
        )
        total = memory_of(setting, shares, num_averages(plan.recipe), options).total
        if (setting, shares, optimizer) != (plan.setting, plan.shares, named):
            change = _change(plan, setting, shares, optimizer)
            remedy = Remedy(change, total, total <= plan.usable_bytes)
            if remedy.fits:
                return remedy
        if per_pass == 1:
            return remedy
        per_pass = largest_divisor(start, per_pass // 2)


def _change(plan: Plan, setting: Setting, shares: Shares, optimizer: OptimizerName) -> str:
    parts = []
    if shares.strategy != plan.shares.strategy:
        parts.append(f"--strategy {shares.strategy}")
    if setting.checkpointing != plan.setting.checkpointing:
        parts.append("--checkpointing")
    if optimizer != plan.recipe.optimizer.name:
        parts.append(f"--optimizer {optimizer}")
    if shares.images_per_pass != plan.shares.images_per_pass:
        parts.append(f"--batch-per-gpu {shares.images_per_pass} (micro_batches {shares.passes})")
    return " ".join(parts)


def _storage(recipe: Recipe, images: int, setting: Setting, encoder: Encoder, size: Sizes) -> Storage:
    captions = captions_used(recipe.dataset.captions)
    averages = num_averages(recipe)
    channels, side, _ = latent_shape(blueprint(setting.backbone))
    side = setting.latent_size or side
    every = recipe.power_ema_every_images
    moments = -(-recipe.images_total // every) if every else 0
    return Storage(
        images=images,
        captions=captions,
        latents=latent_bytes(images, (channels, side, side)),
        texts=tuple(text_costs(images, captions, recipe.images_total, encoder, encoder.tokens)),
        encoder=encoder,
        checkpoints=KEPT_CHECKPOINTS
        * checkpoint_bytes(size.trained, averages, int(state_bytes(size, recipe.optimizer))),
        exports=export_bytes(size.parameters, averages),
        averages=moments * len(recipe.power_ema_sigma_rels) * 4 * size.trained,
    )
