"""Assets of the group ``encodings``: what models are fed with."""

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
from pydantic import Field

from assets.derivation.deriving import refresh_table
from assets.derivation.inputs import landed_of, samples_of
from assets.derivation.units import Derivation, Units
from assets.derivation.work_items import sample_work, text_units
from assets.encodings.assembly import gate_of, read_tables, refuse_stale, write_dataset
from assets.encodings.buckets import Geometry
from assets.encodings.latents import latent_model, latents_digest
from assets.encodings.text import distinct_texts, text_model
from assets.graph.definitions import (
    DerivedConfig,
    build_asset,
    check_spec,
    gate_check,
    materialized,
    picture,
    settings,
    with_defaults,
)
from assets.graph.interfaces import Compute, Landing, Models, Store, Surroundings
from assets.graph.schemas import IMAGE_LATENTS, TEXT_EMBEDDINGS
from assets.graph.steps import STEPS, provenance_of

IMAGE_SIZE = 64


class TextEmbeddingsConfig(DerivedConfig):
    """Settings of ``text_embeddings``."""

    batch_size: int = Field(64, description="captions encoded at once", ge=1)
    raw: bool = Field(False, description="also alt-texts of training samples that curation dropped")


class AutoencoderConfig(dg.Config):
    """Settings of ``autoencoder``."""

    train: bool = Field(
        False, description="train a new one by the profile's recipe; false takes the shipped one"
    )
    num_images: int = Field(12288, description="composed training scenes that a new one is trained on", ge=8)
    scene_seed: int = Field(17, description="seed of those scenes", ge=0)


class ImageLatentsConfig(DerivedConfig):
    """Settings of ``image_latents``."""

    image_size: int = Field(IMAGE_SIZE, description="side in pixels to which images are cropped and resized")
    buckets: list[str] = Field(
        [], description="sizes HEIGHTxWIDTH in pixels; an image goes to the nearest ratio. Empty: the square"
    )
    more_sizes: list[int] = Field([], description="further sides at which images are encoded, for stages")
    raw: bool = Field(False, description="also training images that curation dropped")


class TrainingShardsConfig(dg.Config):
    """Settings of ``training_shards``."""

    min_train_samples: int = Field(100, description="fewest training samples that the gate lets through")
    store_states: bool = Field(
        True, description="store text states; false: words alone, to be encoded while training (large sets)"
    )
    raw: bool = Field(
        False,
        description="also training samples that curation dropped, marked as such; recipes take them by dataset.filter",
    )


class LayoutShardsConfig(dg.Config):
    """Settings of ``layout_shards``."""

    text: str = Field(
        "description",
        description="what an entity is told as: description (the detailed one, where there is one) or phrase",
        pattern="^(description|phrase)$",
    )
    tokens_per_entity: int = Field(
        1,
        description="1: the phrase's pooled vector (SD3); more: so many token states of it (FLUX: 30)",
        ge=1,
    )


CONFIGS: Mapping[str, type[dg.Config]] = {
    "text_embeddings": TextEmbeddingsConfig,
    "autoencoder": AutoencoderConfig,
    "image_latents": ImageLatentsConfig,
    "training_shards": TrainingShardsConfig,
    "layout_shards": LayoutShardsConfig,
}


def other_inputs(name: str, config: dg.Config, surroundings: Surroundings) -> dict[str, str]:
    """Digests of what these assets read from outside the graph."""
    from training.packaged_models import SHIPPED_AUTOENCODER_DIGEST
    from training.recipes.text_encoder import encoder_digest

    if name in ("text_embeddings", "training_shards", "layout_shards"):
        return {"text_encoder": encoder_digest(surroundings.models.text_encoder)}
    if name == "autoencoder" and isinstance(config, AutoencoderConfig) and not config.train:
        return {"shipped_autoencoder": SHIPPED_AUTOENCODER_DIGEST}
    return {}


def text_embeddings(
    context: dg.AssetExecutionContext,
    config: TextEmbeddingsConfig,
    store: dg.ResourceParam[Store],
    compute: dg.ResourceParam[Compute],
    models: dg.ResourceParam[Models],
) -> dg.MaterializeResult:
    """Every distinct caption as the states that backbones attend to.

    Encoding text while training would cost more than the small backbones themselves, so it is done once: the
    profile's encoder (MiniLM from its package, if none is named) turns each caption, original or generated, into token
    states and a pooled vector.
    """
    key, step = context.partition_key, STEPS["text_embeddings"]
    model = text_model(config.batch_size, models.text_encoder)
    provenance = provenance_of(store, step, key, settings(config), {"text_encoder": model.digest})
    samples = samples_of(store, key, raw=config.raw)
    alt_texts = landed_of(store, key, samples, ["sample_id", "alt_text"])["alt_text"]
    generated = store.read_table("recaptions", key, ["caption", "keep"])
    kept = generated.filter(generated["keep"])["caption"]
    texts = distinct_texts([*alt_texts.to_pylist(), *kept.to_pylist()])
    dropped = distinct_texts(
        generated["caption"].to_pylist()
    )  # encoded before, perhaps: a threshold may come back
    derivation = Derivation(
        step.name, step.name, model, "text_id", TEXT_EMBEDDINGS, ["text_id"], step.function_version
    )
    done = refresh_table(
        store, compute, derivation, text_units(texts, model, dropped), provenance, key, context.log.info,
        retry_failed=config.retry_failed,
    )  # fmt: skip
    return materialized(store, done.manifest, done.counts, schema=TEXT_EMBEDDINGS)


def autoencoder(
    context: dg.AssetExecutionContext,
    config: AutoencoderConfig,
    store: dg.ResourceParam[Store],
    compute: dg.ResourceParam[Compute],
    landing: dg.ResourceParam[Landing],
    models: dg.ResourceParam[Models],
) -> dg.MaterializeResult:
    """The small autoencoder whose latents every backbone works in.

    One ships with the project, checked by its digest; ``train: true`` makes a new one by the profile's recipe on
    composed training scenes. Its reconstruction error bounds what any backbone behind it can show.
    """
    from assets.encodings.autoencoding import obtain_autoencoder, reconstruction_sheet
    from training.model_folders.autoencoder_config import latent_shape

    folder, inputs = obtain_autoencoder(
        config.train, config.num_images, config.scene_seed, compute, landing, models, context.log.info
    )
    provenance = provenance_of(store, STEPS["autoencoder"], None, config.model_dump(), inputs)
    manifest = store.publish_folder("autoencoder", folder, provenance)
    sheet, error = reconstruction_sheet(store.local_folder("autoencoder"), landing)
    metadata = {
        "reconstruction_mse": error,
        "reconstructions": picture(sheet, "held-out scenes above, their reconstructions below"),
        "latent_shape": str(latent_shape(store.local_folder("autoencoder"))),
    }
    return materialized(store, manifest, metadata)


def image_latents(
    context: dg.AssetExecutionContext,
    config: ImageLatentsConfig,
    store: dg.ResourceParam[Store],
    compute: dg.ResourceParam[Compute],
) -> dg.MaterializeResult:
    """Every curated image in the autoencoder's latent space, with the error of decoding it again.

    Rows carry a digest over autoencoder, resolutions, buckets and crop: latents of another autoencoder or size are
    recomputed, never mixed.
    """
    key, step = context.partition_key, STEPS["image_latents"]
    provenance = provenance_of(store, step, key, settings(config))
    model = latent_model(
        store.local_folder("autoencoder"),
        provenance.inputs["autoencoder"],
        config.image_size,
        config.buckets,
        config.more_sizes,
    )
    units = Units(
        dict.fromkeys(samples_of(store, key, raw=config.raw), ""),
        lambda todo: sample_work(store, key, model, todo),
    )
    derivation = Derivation(
        step.name,
        step.name,
        model,
        "sample_id",
        IMAGE_LATENTS,
        ["sample_id", "resolution"],
        step.function_version,
    )
    done = refresh_table(
        store, compute, derivation, units, provenance, key, context.log.info, retry_failed=config.retry_failed
    )
    errors = done.table["reconstruction_error"].to_numpy()
    metadata = {"reconstruction_mse": float(np.mean(errors)) if len(errors) else None, **done.counts}
    return materialized(store, done.manifest, metadata, schema=IMAGE_LATENTS)


def training_shards(
    context: dg.AssetExecutionContext,
    config: TrainingShardsConfig,
    store: dg.ResourceParam[Store],
    models: dg.ResourceParam[Models],
) -> dg.MaterializeResult:
    """The one dataset that models depend on: memory-mapped latents, captions and text states under one digest.

    It is unpartitioned on purpose: a model's recorded input is this digest, and it changes when any image, caption
    or latent does. The gate's verdict is stored with the digest, and every training refuses a dataset without it;
    captions that fail their check, or a benchmark that leaks, stop it here.
    """
    from assets.encodings.sheets import sample_sheet
    from training.recipes.text_encoder import encoder_digest

    step = STEPS["training_shards"]
    for gated in ("caption_statistics", "layout_benchmark"):
        store.require(gated, require_gate=True)
    text_encoder = encoder_digest(models.text_encoder)
    provenance = provenance_of(store, step, None, settings(config), {"text_encoder": text_encoder})
    tables = read_tables(store)
    latents_of = store.require("autoencoder").digest
    if config.store_states:
        refuse_stale(tables.embeddings, "text_embeddings", {text_encoder}, "the profile's text encoder")
    refuse_stale(tables.latents, "image_latents", _latents_wanted(store, latents_of), "the autoencoder, as")
    with tempfile.TemporaryDirectory(prefix="foundry-shards-") as scratch:
        folder = Path(scratch) / "shards"
        counts = write_dataset(
            folder,
            tables,
            autoencoder_digest=latents_of,
            text_encoder_digest=text_encoder,
            max_tokens=models.text_encoder.total_tokens,
            store_states=config.store_states,
            raw=config.raw,
        )
        gate = gate_of(counts, config.min_train_samples)
        manifest = store.publish_folder(step.name, folder, provenance, gate=gate)
    metadata: dict[str, Any] = {
        **counts,
        **{name: dg.MetadataValue.json(counts[name]) for name in ("splits", "latent_shapes")},
        "dagster/row_count": counts["num_samples"],
        "examples": picture(
            sample_sheet(store.local_folder(step.name), store), "training samples and a caption each"
        ),
    }
    return materialized(store, manifest, metadata, [gate_check("schema_and_counts", gate)])


def layout_shards(
    context: dg.AssetExecutionContext,
    config: LayoutShardsConfig,
    store: dg.ResourceParam[Store],
    models: dg.ResourceParam[Models],
) -> dg.MaterializeResult:
    """What stands where in the samples of the dataset: the annotated entities, each phrase encoded once, row by row as there.

    It lies beside `training_shards` and carries its digest, so that a moved threshold of annotations makes no backbone
    stale; layout branches read both.
    """
    from assets.encodings.layouts import layout_facts, read_layouts, write_layouts
    from training.recipes.text_encoder import encoder_digest
    from training.shards import TrainingShards
    from training.text_encoders import build_encoder

    step = STEPS["layout_shards"]
    outside = {"text_encoder": encoder_digest(models.text_encoder)}
    provenance = provenance_of(store, step, None, settings(config), outside)
    dataset = store.require("training_shards", require_gate=True)
    shards = TrainingShards.open(store.local_folder("training_shards", require_gate=True))
    layouts = read_layouts(store, shards, "phrase" if config.text == "phrase" else "description")
    with tempfile.TemporaryDirectory(prefix="foundry-layouts-") as scratch:
        folder = Path(scratch) / "layouts"
        encoder = build_encoder(models.text_encoder)
        about = write_layouts(folder, layouts, encoder, dataset.digest, config.tokens_per_entity)
        manifest = store.publish_folder(step.name, folder, provenance)
    facts = layout_facts(layouts, about)
    by_number = dg.MetadataValue.json(facts.pop("samples_by_number_of_entities"))
    return materialized(store, manifest, {**facts, "samples_by_number_of_entities": by_number})


def _latents_wanted(store: Store, autoencoder: str) -> set[str]:
    """Digests that latents of today's autoencoder have at the sizes that each shard group was made with."""
    names = ("image_size", "buckets", "more_sizes")
    wanted = set()
    for key in store.partitions("image_latents"):
        config = store.require("image_latents", key).provenance.config
        geometry = Geometry.of(**{name: config[name] for name in names if name in config})
        wanted.add(latents_digest(autoencoder, geometry))
    return wanted


def build_definitions(
    partitions: dg.PartitionsDefinition, defaults: Mapping[str, Mapping[str, Any]], pool: str
) -> list[dg.AssetsDefinition]:
    """The group's assets, with the profile's run-config defaults."""
    configs = {name: with_defaults(base, defaults.get(name, {})) for name, base in CONFIGS.items()}
    gate = check_spec(
        "training_shards",
        "schema_and_counts",
        "Enough training samples, every one with captions and a latent, none that leaked from a held-out split.",
        blocking=True,
    )
    return [
        build_asset(text_embeddings, configs["text_embeddings"], partitions=partitions),
        build_asset(autoencoder, configs["autoencoder"], pool=pool),
        build_asset(image_latents, configs["image_latents"], partitions=partitions),
        build_asset(
            training_shards,
            configs["training_shards"],
            checks=[gate],
            automation=dg.AutomationCondition.eager(),
        ),
        build_asset(layout_shards, configs["layout_shards"], automation=dg.AutomationCondition.eager()),
    ]
