"""One way to score the units of a model, whatever the method: what :func:`keep_best` ranks and :func:`prune` removes by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from training.backbones import bare, latent_channels, pooled_dim, text_dim
from training.conditioning import Condition
from training.digests import canonical_json, sha256_bytes
from training.errors import FoundryError
from training.model_folders.denoiser import Denoiser
from training.pruning._layers import Kind
from training.pruning._resuming import LearningFolder, learn
from training.pruning.baselines import (
    CaptionedLatents,
    Log,
    UnitScores,
    block_scores,
    check_prompts,
    check_samples,
    magnitude_scores,
    random_scores,
    taylor_scores,
)
from training.pruning.learning import MaskLearner, MaskUpdate
from training.pruning.masking import masked
from training.pruning.metering import Meter
from training.pruning.metering import ScoringCost as ScoringCost
from training.pruning.units import UnitGroup, unit_groups
from training.recipes.pruning import LEARNED_METHODS, Method, PruningOptions, method_named
from training.sampling.replayable_steps import check_replayable


@dataclass(frozen=True)
class ScoredUnits:
    """A score for every unit, higher for what is to stay; what it cost; and every update, of learned methods alone."""

    scores: UnitScores
    cost: ScoringCost
    history: tuple[MaskUpdate, ...] = ()


@dataclass(frozen=True)
class Scoring:
    """What a scoring starts from; its fields are the arguments of :func:`score_units`."""

    method: Method
    denoiser: Denoiser
    prompts: Condition
    latents: CaptionedLatents | None
    options: PruningOptions
    kinds: tuple[Kind, ...]
    seed: int
    latent_size: tuple[int, int] | None
    log: Log

    @property
    def is_learned(self) -> bool:
        """Whether scores are the logits of learned masks."""
        return self.method in LEARNED_METHODS


class _Latents(NamedTuple):
    """Latents with what is told of them, the size of their pictures too."""

    latents: Tensor
    condition: Condition


def score_units(
    method: str,
    denoiser: Denoiser,
    prompts: Condition,
    latents: CaptionedLatents | None,
    options: PruningOptions,
    *,
    kinds: Sequence[Kind],
    seed: int,
    folder: Path,
    log: Log,
    model_digest: str = "",
    latent_size: tuple[int, int] | None = None,
) -> ScoredUnits:
    """Score every unit of ``kinds`` by one of :data:`METHODS`.

    ``ecodiff`` and ``per_step`` learn masks, whose logits are the scores; the method decides ``options.distance``. They
    keep their state in ``folder``: a rerun goes on from there to bit-equal logits, and one that was done already gives
    its scores at once. The state belongs to ``model_digest`` (of the backbone's weights), method, options, kinds, seed,
    latent size and the prompts that are used; states of others are ignored and stay. ``latents`` are for ``taylor``
    alone. ``latent_size`` (height, width) None is the backbone's own. ``log`` gets a line an update, with number, loss
    and seconds left, and a line for each noise level or block.

    The backbone is frozen and set to evaluation. Before any work FoundryError is raised for an unknown method, a backbone
    that is not known or has no values, kinds without units or (to be learned) without a learning rate, prompts
    or latents that are too few or of other widths, and a scheduler that cannot be replayed.
    """
    scoring = Scoring(
        method_named(method), denoiser, prompts, latents, options, tuple(kinds), seed, latent_size, log
    )
    groups = _checked(scoring)
    denoiser.backbone.requires_grad_(False).eval()
    meter = Meter(denoiser.device)
    with meter.on(denoiser.backbone):
        if not scoring.is_learned:
            return ScoredUnits(_baseline(scoring), meter.cost)
        learner = _learner(scoring, groups)
        learning = LearningFolder(folder, _digest(scoring, learner.options, model_digest))
        history, cost = learn(learner, learning, meter, log)
    scores = {group.key: learner.logits[group.kind][group.name].detach().cpu() for group in groups}
    return ScoredUnits(scores, cost, tuple(history))


def _checked(scoring: Scoring) -> list[UnitGroup]:
    """All that can be told before any work; the units to score."""
    groups = unit_groups(scoring.denoiser.backbone, scoring.kinds)
    for kind in scoring.kinds:
        if not any(group.kind == kind for group in groups):
            raise FoundryError(f"kinds: the backbone has no units of '{kind}' left; leave it out")
    if next(scoring.denoiser.backbone.parameters()).is_meta:
        raise FoundryError("pruning: the backbone is on the meta device, without values; load its weights")
    if scoring.method == "taylor":
        check_samples(scoring.latents, scoring.options.taylor)
        _check_latents(scoring)
    if scoring.is_learned or scoring.method == "block_removal":
        _check_texts(scoring.denoiser.backbone, scoring.prompts, "prompts")
    if scoring.method == "block_removal":
        check_prompts(scoring.prompts, scoring.options.block_removal.prompts, "block_removal.prompts")
    if scoring.is_learned:
        check_prompts(scoring.prompts, scoring.options.prompts, "prompts")
        _check_rates(scoring)
    if scoring.is_learned or scoring.method == "block_removal":
        check_replayable(scoring.denoiser.fresh_scheduler())
    return groups


def _check_latents(scoring: Scoring) -> None:
    latents, channels = scoring.latents, latent_channels(scoring.denoiser.backbone)
    if latents is not None and latents.latents.shape[1] != channels:
        raise FoundryError(
            f"latents: {latents.latents.shape[1]} channels found, the backbone takes {channels}; "
            "give latents of the autoencoder that it was trained with"
        )
    if latents is not None:
        _check_texts(scoring.denoiser.backbone, latents.condition, "latents")


def _check_texts(backbone: Any, texts: Condition, field: str) -> None:
    config = bare(backbone).config
    wanted = (text_dim(config), pooled_dim(config))
    pooled = None if texts.pooled is None or wanted[1] is None else texts.pooled.shape[-1]
    found = (texts.states.shape[-1], pooled)
    if found != wanted:
        raise FoundryError(
            f"{field}: text width and pooled width are {found}, the backbone takes {wanted}; "
            "encode the texts with the encoders that it was trained with"
        )


def _check_rates(scoring: Scoring) -> None:
    for kind in scoring.kinds:
        if not scoring.options.learning_rates[kind]:
            raise FoundryError(
                f"kinds: '{kind}' is to be learned, but '{kind}_learning_rate' is 0; give it a rate or leave the kind out"
            )


def _baseline(scoring: Scoring) -> UnitScores:
    backbone, kinds, seed, log = scoring.denoiser.backbone, scoring.kinds, scoring.seed, scoring.log
    if scoring.method == "random":
        return random_scores(backbone, kinds, seed)
    if scoring.method == "magnitude":
        return magnitude_scores(backbone, kinds)
    if scoring.method == "taylor" and scoring.latents is not None:
        noising, options = scoring.denoiser.noising, scoring.options.taylor
        told = replace(scoring.latents.condition, pixels_per_latent=scoring.denoiser.pixels_per_latent)
        latents = _Latents(scoring.latents.latents, told)
        return taylor_scores(backbone, noising, latents, kinds, options, seed, log)
    return block_scores(
        scoring.denoiser, scoring.prompts, kinds, scoring.options, seed, scoring.latent_size, log
    )


def _learner(scoring: Scoring, groups: Sequence[UnitGroup]) -> MaskLearner:
    units: dict[str, dict[str, int]] = {}
    for group in groups:
        units.setdefault(group.kind, {})[group.name] = group.num_units
    distance = "per_step" if scoring.method == "per_step" else "end_to_end"
    return MaskLearner(
        scoring.denoiser,
        scoring.prompts,
        units,
        partial(masked, kinds=scoring.kinds),
        scoring.options.model_copy(update={"distance": distance}),
        scoring.seed,
        scoring.latent_size,
    )


def _digest(scoring: Scoring, options: PruningOptions, model_digest: str) -> str:
    """What a saved state belongs to; options of other methods and the check of replays change no logit."""
    identity = {
        "model": model_digest,
        "method": scoring.method,
        "options": options.model_dump(mode="json", exclude={"taylor", "block_removal", "check_replay"}),
        "kinds": sorted(scoring.kinds),
        "seed": scoring.seed,
        "latent_size": scoring.latent_size,
        "prompts": _prompts_digest(
            scoring.prompts.part(0, options.prompts), pooled_dim(bare(scoring.denoiser.backbone).config)
        ),
    }
    return sha256_bytes(canonical_json(identity).encode())


def _prompts_digest(prompts: Condition, pooled_width: int | None) -> str:
    """Of the texts and their null; pooled text counts where the backbone takes it."""
    null = prompts.null
    texts = (
        prompts.states,
        prompts.mask,
        *((None, None) if null is None else (null.states[0], null.mask[0])),
    )
    pooled = (prompts.pooled, None if null is None or null.pooled is None else null.pooled[0])
    parts = (*texts, *(pooled if pooled_width else (None, None)))
    return sha256_bytes(canonical_json([None if part is None else _told(part) for part in parts]).encode())


def _told(part: Tensor) -> list[Any]:
    array = part.cpu().numpy()
    return [str(array.dtype), list(array.shape), sha256_bytes(array.tobytes())]
