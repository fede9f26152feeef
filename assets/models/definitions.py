"""Assets of the group ``models``: the judge, and every kind of model with what comes with it, from its row."""

from collections.abc import Iterable, Mapping
from typing import Any

import dagster as dg

from assets.derivation.inputs import model_inputs
from assets.graph.definitions import build_asset, check_spec, gate_check, materialized, picture, with_defaults
from assets.graph.interfaces import Compute, Landing, Models, Store, Surroundings
from assets.graph.model_kinds import ModelAsset, ModelCheck, ModelKind
from assets.graph.steps import STEPS, provenance_of
from assets.models import configs
from assets.models.configs import JudgeConfig, resolved_config
from assets.models.kinds import MODEL_KINDS
from assets.models.partitions import KindPartitions, ModelPartitions
from assets.models.training_runs import publish, resolve_recipe, run_metadata, train_to_end

__all__ = ["CONFIGS", "build_definitions", "configs_of", "other_inputs", "resolved_config"]


def judge_clip(
    context: dg.AssetExecutionContext,
    config: JudgeConfig,
    store: dg.ResourceParam[Store],
    compute: dg.ResourceParam[Compute],
    landing: dg.ResourceParam[Landing],
    models: dg.ResourceParam[Models],
) -> dg.MaterializeResult:
    """The judge of alignment: a small image-text model that shares nothing with whatever writes the captions.

    It trains on a split of its own with the original alt-texts; its score on real held-out images is the ceiling
    that stands beside every score it gives.
    """
    from assets.models.backbones import loss_curve
    from assets.models.judging import gate_of_judge, judge_card, write_judge_dataset

    step = STEPS["judge_clip"]
    recipe = resolve_recipe(models.judge, config.model_dump())
    provenance = provenance_of(store, step, None, recipe.settings())
    folder, digest = write_judge_dataset(store, models.runs.parent / "judge_dataset")
    run = train_to_end(recipe, {"dataset": digest}, {"dataset": folder}, models, compute, context.log.info)
    gate, ceiling = gate_of_judge(run, store)
    manifest = publish(
        store, "judge_clip", None, run, provenance, gate, judge_card(run, ceiling, models.profile)
    )
    metadata = {
        **run_metadata(run),
        **ceiling,
        "loss_curve": picture(loss_curve(run.folder), "contrastive loss over images seen"),
    }
    return materialized(store, manifest, metadata, [gate_check("finite_loss", gate)])


JUDGE = ModelAsset(
    judge_clip, JudgeConfig, (ModelCheck("finite_loss", "The judge's loss stayed finite."),), in_pool=True
)


def configs_of(kinds: Iterable[ModelKind]) -> dict[str, type[dg.Config]]:
    """Classes of run config by asset of the group."""
    assets = [JUDGE, *(asset for kind in kinds for asset in (kind.main, *kind.companions))]
    return {asset.name: asset.config for asset in assets}


CONFIGS: Mapping[str, type[dg.Config]] = configs_of(MODEL_KINDS)


def other_inputs(name: str, config: dg.Config, surroundings: Surroundings) -> Mapping[str, str]:
    """Digests of what these assets read from outside the graph, who looks at pictures for them among it."""
    kinds = surroundings.models.recipes.kinds
    assets = {asset.name: asset for kind in kinds for asset in (kind.main, *kind.companions)}
    seen = [
        model_inputs(surroundings.perception, role)
        for role in (assets[name].looks_by if name in assets else ())
    ]
    return {**configs.other_inputs(name, surroundings.models), **{key: of[key] for of in seen for key in of}}


def build_definitions(
    partitions: ModelPartitions, defaults: Mapping[str, Mapping[str, Any]], pool: str
) -> list[dg.AssetsDefinition]:
    """The group's assets; ``partitions`` holds the names of the profile's recipes and whose children they are."""
    built = [_build(JUDGE, None, defaults, pool)]
    for own in partitions.values():
        built += [_build(asset, own, defaults, pool) for asset in (own.kind.main, *own.kind.companions)]
    return built


def _build(
    asset: ModelAsset, own: KindPartitions | None, defaults: Mapping[str, Mapping[str, Any]], pool: str
) -> dg.AssetsDefinition:
    """One asset of a kind; the main one of the kind reads by name what its recipes name."""
    name = asset.name
    partitioned = own is not None and STEPS[name].partitioned_by == own.kind.asset
    return build_asset(
        asset.body,
        with_defaults(asset.config, defaults.get(name, {})),
        checks=[
            check_spec(name, check.name, check.description, blocking=check.blocking) for check in asset.checks
        ],
        partitions=own.keys if own is not None and partitioned else None,
        pool=pool if asset.in_pool else None,
        mappings=own.parents if own is not None and name == own.kind.asset else None,
    )
