"""Models that write, to ship: a signs profile's backbones, read by OCR and packed."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from assets.graph.interfaces import Surroundings
from orchestration.teachers import PackedTeacher, run_of, training_of
from training.errors import FoundryError

if TYPE_CHECKING:
    from assets.corpus.signs import SignWorld
    from assets.writing.text_model import OcrEngine
    from assets.writing.writer_scores import Signs

STEPS, GUIDANCE, SHEET_PICTURES = 16, 1.0, 48


def sign_world(surroundings: Surroundings) -> SignWorld | None:
    """The profile's world, where it is of signs."""
    from assets.corpus.signs import SignWorld
    from assets.corpus.worlds import load_any_world

    world = load_any_world(surroundings.landing.world_path)
    return world if isinstance(world, SignWorld) else None


def pack_writers(surroundings: Surroundings, into: Path, log: Callable[[str], None]) -> list[PackedTeacher]:
    """Read what every backbone of a signs profile draws of held-out signs, and pack it below ``into``/writers.

    What is scored is what ships: the weights after rounding to fp16. Raises FoundryError when a backbone is missing or did not
    pass its checks, and in a profile whose world is not of signs.
    """
    from assets.writing.text_model import ocr_of
    from assets.writing.writer_scores import held_out_signs, score_signs

    world = sign_world(surroundings)
    if world is None:
        raise FoundryError(
            "writers are packed in a profile whose world is of signs; set FOUNDRY_PROFILE=signs"
        )
    signs, engine = held_out_signs(surroundings.store), ocr_of(surroundings.perception)
    log(f"reading {len(signs.words)} held-out signs with {engine.name}")
    palette = palette_of(world)
    ceilings = {
        "real": score_signs(signs.images, signs, palette, engine).told(),
        "reconstructed": score_signs(_reconstructed(surroundings, signs), signs, palette, engine).told(),
    }
    packed = []
    for name in surroundings.models.of("backbone"):
        log(f"scoring {name}")
        packed.append(_pack(surroundings, name, into, signs, engine, palette, ceilings))
    return packed


def palette_of(world: SignWorld) -> dict[str, tuple[int, int, int]]:
    """The world's colours as RGB in [0, 255]."""
    return {
        word: (int(value[1:3], 16), int(value[3:5], 16), int(value[5:7], 16))
        for word, value in world.colors.items()
    }


def _reconstructed(surroundings: Surroundings, signs: Signs) -> Any:
    from training.model_folders.autoencoders import decode_latents, encode_images, load_autoencoder

    model = load_autoencoder(surroundings.store.local_folder("autoencoder"))
    return decode_latents(model, encode_images(model, signs.images))


def _pack(
    surroundings: Surroundings,
    name: str,
    into: Path,
    signs: Signs,
    engine: OcrEngine,
    palette: dict[str, tuple[int, int, int]],
    ceilings: dict[str, Any],
) -> PackedTeacher:
    from assets.models.backbones import loss_curve
    from assets.writing.text_model import TextModel
    from assets.writing.writer_scores import draw_signs, score_signs, writer_markdown
    from evaluation.plots.contact_sheets import contact_sheet, inline_jpeg
    from training.model_folders.teachers import CURVE, SHEET, pack_teacher, round_weights, write_digest
    from training.model_folders.text_encoding import write_sampling
    from training.shards import TrainingShards

    store, models = surroundings.store, surroundings.models
    model = store.local_folder("backbone", name, require_gate=True)
    rounded = round_weights(model, models.runs.parent / "rounded" / name)
    shape = TrainingShards.open(
        store.local_folder("training_shards", require_gate=True)
    ).description.latent_shape
    write_sampling(rounded, models.text_encoder, None if shape is None else shape[1:])
    images = draw_signs(TextModel.load(rounded, models.text_encoder), signs.prompts, STEPS, GUIDANCE)
    scores = {
        **ceilings,
        "drawn": score_signs(images, signs, palette, engine).told(),
        "num_signs": len(signs.words),
        "sampling": {"num_steps": STEPS, "guidance": GUIDANCE},
        "read_by": engine.name,
        **training_of(models.runs, model),
    }
    card = (model / "model_card.md").read_text(
        encoding="utf-8"
    ) + f"\n## As a writer\n\n{writer_markdown(scores)}\n"
    shown = slice(SHEET_PICTURES)
    sheet = inline_jpeg(contact_sheet([*images[shown]], signs.words[shown], columns=8))
    folder = into / "writers" / name
    pictures = {SHEET: sheet, CURVE: loss_curve(run_of(models.runs, model))}
    digest = pack_teacher(rounded, folder, scores, card, pictures)
    shutil.rmtree(rounded, ignore_errors=True)
    write_digest(f"writers/{name}", digest, into)
    return PackedTeacher(name, folder, digest, scores)
