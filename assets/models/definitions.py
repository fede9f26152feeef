"""Assets of the group ``models``: what is trained, and what it draws."""

from collections.abc import Mapping
from typing import Any

import dagster as dg
from pydantic import Field

from assets.definitions import build_asset, check_spec, gate_check, materialized, picture, with_defaults
from assets.interfaces import Compute, Landing, Models, Store, Surroundings
from assets.models.training_runs import publish, resolve_recipe, run_metadata, train_to_end
from assets.steps import STEPS, provenance_of
from evaluation.schemas import GENERATED_SAMPLES


class JudgeConfig(dg.Config):
    """Settings of ``judge_clip``."""

    images_total: int | None = Field(None, description="images seen; empty for the recipe's own figure", ge=1)


class BackboneConfig(dg.Config):
    """Settings of ``backbone``. A changed value is another specification and so another run."""

    images_total: int | None = Field(None, description="images seen; empty for the recipe's own figure", ge=1)
    learning_rate: float | None = Field(
        None, description="peak learning rate; empty for the recipe's own", gt=0
    )
    seed: int | None = Field(
        None, description="seed of weights, order and noise; empty for the recipe's own", ge=0
    )


class GeneratedSamplesConfig(dg.Config):
    """Settings of ``generated_samples``."""

    prompts_per_split: int = Field(24, description="held-out prompts drawn from each held-out split", ge=1)
    num_steps: int = Field(16, description="evaluations of the scheduler", ge=1)
    guidance: float = Field(3.0, description="classifier-free guidance scale, 1 is none", ge=1)
    seed: int = Field(0, description="seed of the starting noise, the same for all models", ge=0)


CONFIGS: Mapping[str, type[dg.Config]] = {
    "judge_clip": JudgeConfig,
    "backbone": BackboneConfig,
    "generated_samples": GeneratedSamplesConfig,
}


def resolved_config(name: str, partition: str | None, config: dg.Config, models: Models) -> dict[str, Any]:
    """What goes into the provenance: for a model, the recipe as it will really be trained."""
    if name == "backbone" and partition is not None:
        return resolve_recipe(models.backbones[partition], config.model_dump()).model_dump(mode="json")
    if name == "judge_clip":
        return resolve_recipe(models.judge, config.model_dump()).model_dump(mode="json")
    return config.model_dump()


def other_inputs(name: str, config: dg.Config, surroundings: Surroundings) -> dict[str, str]:
    """Digests of what these assets read from outside the graph."""
    from training.encoder_settings import encoder_digest

    if name != "backbone":
        return {}
    return {"text_encoder": encoder_digest(surroundings.models.text_encoder)}


def backbone(
    context: dg.AssetExecutionContext,
    config: BackboneConfig,
    store: dg.ResourceParam[Store],
    compute: dg.ResourceParam[Compute],
    models: dg.ResourceParam[Models],
) -> dg.MaterializeResult:
    """One denoising backbone per recipe, trained by the one loop: the points of the scaling law.

    The run lives under its spec hash: terminate and launch again, and it goes on from its last checkpoint to the
    same weights. The result is a standard diffusers pipeline folder with its card and lineage inside.
    """
    from assets.models.backbones import backbone_card, gate_of_model, loss_curve
    from assets.models.sampling import preview
    from training.encoder_settings import encoder_digest

    key, step = context.partition_key, STEPS["backbone"]
    recipe = resolve_recipe(models.backbones[key], config.model_dump())
    other = {"text_encoder": encoder_digest(models.text_encoder)}
    provenance = provenance_of(store, step, key, recipe.model_dump(mode="json"), other)
    paths = {
        "dataset": store.local_folder("training_shards", require_gate=True),
        "autoencoder": store.local_folder("autoencoder"),
    }
    digests = {
        "dataset": provenance.inputs["training_shards"],
        "autoencoder": provenance.inputs["autoencoder"],
        **other,
    }
    run = train_to_end(recipe, digests, paths, models, compute, context.log.info)
    gate = gate_of_model(run)
    manifest = publish(store, "backbone", key, run, provenance, gate, backbone_card(run, models.profile))
    metadata = {
        **run_metadata(run),
        "loss_curve": picture(loss_curve(run), "training loss over images seen"),
        "samples": picture(preview(paths["dataset"], run.folder.model, key), "for held-out prompts"),
    }
    return materialized(store, manifest, metadata, [gate_check("finite_and_reloads", gate)])


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
    provenance = provenance_of(store, step, None, recipe.model_dump(mode="json"))
    folder, digest = write_judge_dataset(store, models.runs.parent / "judge_dataset")
    run = train_to_end(recipe, {"dataset": digest}, {"dataset": folder}, models, compute, context.log.info)
    gate, ceiling = gate_of_judge(run, store)
    manifest = publish(
        store, "judge_clip", None, run, provenance, gate, judge_card(run, ceiling, models.profile)
    )
    metadata = {
        **run_metadata(run),
        **ceiling,
        "loss_curve": picture(loss_curve(run), "contrastive loss over images seen"),
    }
    return materialized(store, manifest, metadata, [gate_check("finite_loss", gate)])


def generated_samples(
    context: dg.AssetExecutionContext,
    config: GeneratedSamplesConfig,
    store: dg.ResourceParam[Store],
    compute: dg.ResourceParam[Compute],
    models: dg.ResourceParam[Models],
) -> dg.MaterializeResult:
    """What each backbone draws for the same held-out prompts from the same noise: the pictures people look at.

    A model whose checks failed is refused here, so nothing downstream scores a broken one.
    """
    from assets.models.sampling import draw_samples, sample_sheet

    key, step = context.partition_key, STEPS["generated_samples"]
    provenance = provenance_of(store, step, key, config.model_dump())
    store.require("backbone", key, require_gate=True)
    table = draw_samples(
        store,
        compute,
        models.resources,
        recipe=key,
        prompts_per_split=config.prompts_per_split,
        num_steps=config.num_steps,
        guidance=config.guidance,
        seed=config.seed,
        function_version=step.function_version,
        log=context.log.info,
    )
    manifest = store.write_table("generated_samples", table, provenance, key)
    metadata = {"samples": picture(sample_sheet(table), "drawn for held-out prompts")}
    return materialized(store, manifest, metadata, schema=GENERATED_SAMPLES)


def build_definitions(
    recipes: dg.PartitionsDefinition, defaults: Mapping[str, Mapping[str, Any]], pool: str
) -> list[dg.AssetsDefinition]:
    """The group's assets; ``recipes`` holds the names of the profile's recipes."""
    configs = {name: with_defaults(base, defaults.get(name, {})) for name, base in CONFIGS.items()}
    reloads = check_spec(
        "backbone",
        "finite_and_reloads",
        "The loss stayed finite, and the published folder reloads to the same output as the model that was trained.",
        blocking=True,
    )
    finite = check_spec("judge_clip", "finite_loss", "The judge's loss stayed finite.", blocking=True)
    return [
        build_asset(judge_clip, configs["judge_clip"], checks=[finite], pool=pool),
        build_asset(backbone, configs["backbone"], partitions=recipes, checks=[reloads], pool=pool),
        build_asset(generated_samples, configs["generated_samples"], partitions=recipes),
    ]
