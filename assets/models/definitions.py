"""Assets of the group ``models``: what is trained, and what it draws."""

from collections.abc import Mapping
from typing import Any

import dagster as dg
from pydantic import Field

from assets.definitions import build_asset, check_spec, gate_check, materialized, picture, with_defaults
from assets.interfaces import Compute, Landing, Models, Store, Surroundings
from assets.models.parents import child_sources, parent_version, recipes_of
from assets.models.partitions import ModelPartitions
from assets.models.training_runs import publish, resolve_recipe, run_metadata, train_to_end
from assets.steps import STEPS, provenance_of
from evaluation.schemas import BACKBONE_ANALYSIS, GENERATED_SAMPLES
from training.spec import Recipe


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


class StepDistilledConfig(BackboneConfig):
    """Settings of ``step_distilled_backbone``. A changed value is another specification and so another run."""

    prompts_per_split: int = Field(
        48, description="held-out prompts of each held-out split that student and teacher draw", ge=2
    )


class GeneratedSamplesConfig(dg.Config):
    """Settings of ``generated_samples``."""

    prompts_per_split: int = Field(24, description="held-out prompts drawn from each held-out split", ge=1)
    num_steps: int = Field(16, description="evaluations of the scheduler", ge=1)
    guidance: float = Field(3.0, description="classifier-free guidance scale, 1 is none", ge=1)
    seed: int = Field(0, description="seed of the starting noise, the same for all models", ge=0)


class BackboneAnalysisConfig(dg.Config):
    """Settings of ``backbone_analysis``."""

    timed_runs: int = Field(
        5, description="forward passes that are timed; medians are told; 0 for none", ge=0
    )
    samples: int = Field(16, description="training samples on which blocks are compared", ge=2)


CONFIGS: Mapping[str, type[dg.Config]] = {
    "judge_clip": JudgeConfig,
    "backbone": BackboneConfig,
    "generated_samples": GeneratedSamplesConfig,
    "step_distilled_backbone": StepDistilledConfig,
    "backbone_analysis": BackboneAnalysisConfig,
}


def resolved_config(name: str, partition: str | None, config: dg.Config, models: Models) -> dict[str, Any]:
    """What goes into the provenance: for a model, the recipe as it will really be trained."""
    if name == "step_distilled_backbone" and partition is not None:
        return student_config(models.step_distilled[partition], config)
    if name == "backbone" and partition is not None:
        return resolve_recipe(models.backbones[partition], config.model_dump()).model_dump(mode="json")
    if name == "judge_clip":
        return resolve_recipe(models.judge, config.model_dump()).model_dump(mode="json")
    return config.model_dump()


def other_inputs(name: str, config: dg.Config, surroundings: Surroundings) -> dict[str, str]:
    """Digests of what these assets read from outside the graph."""
    from training.encoder_settings import encoder_digest

    if name not in ("backbone", "step_distilled_backbone"):
        return {}
    return {"text_encoder": encoder_digest(surroundings.models.text_encoder)}


def parent_of(name: str, partition: str | None, models: Models) -> tuple[str, str] | None:
    """Asset and partition of the model that a recipe starts from; None where it starts from scratch."""
    if partition is None or not STEPS[name].parents:
        return None
    return parent_version(models, name, recipes_of(models, name)[partition])


def student_config(recipe: Recipe, config: dg.Config) -> dict[str, Any]:
    """The recipe as it will be trained, and how many prompts the comparison draws."""
    overrides = config.model_dump()
    prompts = overrides.pop("prompts_per_split")
    return {**resolve_recipe(recipe, overrides).model_dump(mode="json"), "prompts_per_split": prompts}


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


def step_distilled_backbone(
    context: dg.AssetExecutionContext,
    config: StepDistilledConfig,
    store: dg.ResourceParam[Store],
    compute: dg.ResourceParam[Compute],
    models: dg.ResourceParam[Models],
) -> dg.MaterializeResult:
    """A student that draws in one to four steps what its teacher, a backbone, draws in many (consistency distillation).

    Guidance is built in, so sample it without. Its page holds the two side by side: the judge's cosine by number of
    steps, with intervals, and pictures from the same noise.
    """
    from assets.models.backbones import gate_of_model, loss_curve, student_card
    from assets.models.few_steps import built_in_guidance, compare_with_teacher, scores_markdown
    from training.encoder_settings import encoder_digest

    key, step = context.partition_key, STEPS["step_distilled_backbone"]
    settings = student_config(models.step_distilled[key], config)
    recipe = resolve_recipe(models.step_distilled[key], config.model_dump(exclude={"prompts_per_split"}))
    parent = parent_version(models, step.name, recipe)
    other = {"text_encoder": encoder_digest(models.text_encoder)}
    provenance = provenance_of(store, step, key, settings, other, parent)
    sources = child_sources(store, provenance, parent)
    run = train_to_end(recipe, {**sources.digests, **other}, sources.paths, models, compute, context.log.info)
    gate = gate_of_model(run)
    compared = compare_with_teacher(
        store,
        sources.paths["parent"],
        run.folder.model,
        recipe,
        run.done.model_digest,
        config.prompts_per_split,
    )
    card = student_card(run, models.profile, scores_markdown(compared.table), built_in_guidance(recipe))
    manifest = publish(store, step.name, key, run, provenance, gate, card)
    store.write_table("few_step_scores", compared.table, provenance, key)
    metadata = {
        **run_metadata(run),
        "teacher": f"{parent[0]} {parent[1]}",
        "guidance_built_in": built_in_guidance(recipe),
        "steps": dg.MetadataValue.md(scores_markdown(compared.table)),
        "samples": picture(compared.sheet, "teacher and student by number of steps"),
        "loss_curve": picture(loss_curve(run), "distance to the target network over images seen"),
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


def backbone_analysis(
    context: dg.AssetExecutionContext,
    config: BackboneAnalysisConfig,
    store: dg.ResourceParam[Store],
    models: dg.ResourceParam[Models],
) -> dg.MaterializeResult:
    """Where each backbone's parameters, multiply-adds and milliseconds lie, and how alike its blocks are.

    By stage and kind of layer, the parts adding up to the model; similarity across depth on noised training latents.
    From this table people choose what to cut. Milliseconds hold for the machine of this run and what else it does.
    """
    from assets.models.analysis import analyse_recipe, analysis_tables
    from assets.sheets import figure_jpeg
    from evaluation.analysis.drawing import analysis_markdown, analysis_picture

    key, step = context.partition_key, STEPS["backbone_analysis"]
    provenance = provenance_of(store, step, key, config.model_dump())
    analysis = analyse_recipe(store, key, config.timed_runs, config.samples, models.resources.threads)
    tables = analysis_tables(store, key, analysis, step.function_version)
    store.write_table("block_similarities", tables["block_similarities"], provenance, key)
    manifest = store.write_table(step.name, tables[step.name], provenance, key)
    metadata = {
        "parts": dg.MetadataValue.md(analysis_markdown(analysis)),
        "picture": picture(figure_jpeg(analysis_picture(analysis)), "size, time and similarity across depth"),
    }
    return materialized(store, manifest, metadata, schema=BACKBONE_ANALYSIS)


def build_definitions(
    partitions: ModelPartitions, defaults: Mapping[str, Mapping[str, Any]], pool: str
) -> list[dg.AssetsDefinition]:
    """The group's assets; ``partitions`` holds the names of the profile's recipes and whose children they are."""
    configs = {name: with_defaults(base, defaults.get(name, {})) for name, base in CONFIGS.items()}
    reloads, student_reloads = (
        check_spec(
            name,
            "finite_and_reloads",
            "The loss stayed finite, and the published folder reloads to the same output as the model that was trained.",
            blocking=True,
        )
        for name in ("backbone", "step_distilled_backbone")
    )
    finite = check_spec("judge_clip", "finite_loss", "The judge's loss stayed finite.", blocking=True)
    return [
        build_asset(judge_clip, configs["judge_clip"], checks=[finite], pool=pool),
        build_asset(
            backbone, configs["backbone"], partitions=partitions.backbones, checks=[reloads], pool=pool
        ),
        build_asset(generated_samples, configs["generated_samples"], partitions=partitions.backbones),
        build_asset(
            step_distilled_backbone,
            configs["step_distilled_backbone"],
            partitions=partitions.step_distilled,
            checks=[student_reloads],
            pool=pool,
            mappings=partitions.step_distilled_parents,
        ),
        build_asset(backbone_analysis, configs["backbone_analysis"], partitions=partitions.backbones),
    ]
