"""Models to ship: a profile's backbones as teachers and its layout models as branches of them, scored and packed."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from assets.graph.interfaces import Surroundings
from training.errors import FoundryError
from training.run_folder import RunFolder, replace_folder

if TYPE_CHECKING:
    from training.layout.shipping import Base

SHEET_PICTURES, SCORED_LAYOUTS = 32, 192
LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True)
class PackedTeacher:
    """A teacher's folder with its content digest and scores."""

    name: str
    folder: Path
    digest: str
    scores: dict[str, Any]


def pack_teachers(surroundings: Surroundings, into: Path, log: Callable[[str], None]) -> list[PackedTeacher]:
    """Score every backbone of the profile on held-out scenes and pack it below ``into``/teachers.

    What is scored is what ships: the weights after rounding to fp16. None where the profile has no backbones. Raises
    FoundryError when a backbone, the judge or the captions of held-out scenes are missing or did not pass their checks.
    """
    from assets.distillation.teacher_scores import captioned_scenes, ceilings
    from evaluation.judge import Judge

    store, perception = surroundings.store, surroundings.perception
    if not surroundings.models.of("backbone"):
        return []
    judge = Judge.load(store.local_folder("judge_clip", require_gate=True))
    scenes = captioned_scenes(store)
    log(f"scoring on {len(scenes.prompts)} held-out scenes, {len(scenes.wanted)} objects named")
    tops = ceilings(store, scenes, judge, perception)
    packed = []
    for name in surroundings.models.of("backbone"):
        log(f"scoring {name}")
        packed.append(_pack(surroundings, name, into, scenes, judge, tops))
    return packed


@dataclass(frozen=True)
class PackedLayoutModel:
    """A layout model's folder without its base, with its content digest and scores."""

    name: str
    base: str
    folder: Path
    digest: str
    scores: dict[str, Any]


def pack_layout_models(
    surroundings: Surroundings, into: Path, log: Callable[[str], None]
) -> list[PackedLayoutModel]:
    """Score every layout model of the profile on held-out layouts and pack its branch below ``into``/layout_models.

    Its base is a teacher that was packed into ``into`` before, or ships already. What is scored is what ships: the branch in
    fp16 on the base in fp16. Raises FoundryError when a model is missing or did not pass its checks.
    """
    packed = []
    for name in surroundings.models.of("layout_model"):
        log(f"scoring {name}")
        packed.append(_pack_layout_model(surroundings, name, into, log))
    return packed


def _pack_layout_model(
    surroundings: Surroundings, name: str, into: Path, log: Callable[[str], None]
) -> PackedLayoutModel:
    from assets.layout.configs import FollowingConfig
    from assets.layout.measuring import measure_following
    from assets.layout.scores import layout_markdown
    from assets.models.backbones import loss_curve
    from assets.models.drawing import drawing_place, drawing_resources
    from assets.models.parents import parent_version
    from training.layout.folders import count_parameters
    from training.layout.shipping import grow_pipeline, pack_layout_model, round_branch
    from training.model_folders.teachers import CARD, CURVE, LINEAGE, SHEET, write_digest

    store, models = surroundings.store, surroundings.models
    model = store.local_folder("layout_model", name, require_gate=True)
    asset, key = parent_version(models.recipes, "layout_model", models.of("layout_model")[name])
    base, teacher = _base_of(surroundings, asset, key, into)
    work = models.runs.parent / "rounded" / name
    rounded = round_branch(model / "layout_branch", base, work / "branch")
    whole = grow_pipeline(rounded, teacher, base.digest, work / "model")
    shutil.copyfile(model / LINEAGE, whole / LINEAGE)
    place = drawing_place(store, surroundings.compute, drawing_resources(models.resources), log)
    wanted = FollowingConfig(num_layouts=SCORED_LAYOUTS, num_steps=16, guidance=3.0, strength=1.0)
    followed = measure_following(store, surroundings.perception, place, whole, wanted, recipe=name, digest="")
    table = layout_markdown(followed.scores)
    scores = {
        **training_of(models.runs, model),
        "base": base.name,
        "branch_parameters": count_parameters(rounded),
        "rows": followed.scores.drop_columns(["recipe", "model_digest"]).to_pylist(),
        "table": table,
    }
    card = (model / CARD).read_text(encoding="utf-8") + f"\nAs packed, in fp16:\n\n{table}\n"
    folder = into / "layout_models" / name
    pictures = {SHEET: followed.sheet, CURVE: loss_curve(run_of(models.runs, model))}
    digest = pack_layout_model(rounded, whole, folder, scores, card, pictures)
    write_digest(f"layout_models/{name}", digest, into)
    return PackedLayoutModel(name, base.name, folder, digest, scores)


def _base_of(surroundings: Surroundings, asset: str, key: str, into: Path) -> tuple[Base, Path]:
    """The teacher that a branch is packed for, and its pipeline folder with the weights that ship."""
    from training.layout.shipping import Base
    from training.packaged_models import teacher_digests

    if asset == "teacher_backbone":
        return Base(key, teacher_digests()[key]), surroundings.store.local_folder(
            asset, key, require_gate=True
        )
    known = json.loads((into / "digests.json").read_text(encoding="utf-8"))
    return Base(key, known[f"teachers/{key}"]), surroundings.models.runs.parent / "rounded" / key


def pack_autoencoder(surroundings: Surroundings, into: Path) -> str:
    """Copy the autoencoder that the workspace trained below ``into``, card and lineage with it; returns its digest.

    Raises FoundryError when the workspace's autoencoder was not trained here.
    """
    from assets.encodings.autoencoding import autoencoder_card, autoencoder_lineage
    from training.digests import OUTSIDE_MODEL_DIGEST, folder_digest
    from training.model_folders.teachers import write_digest

    store, models = surroundings.store, surroundings.models
    manifest = store.current("autoencoder")
    spec_hash = manifest.provenance.inputs.get("spec") if manifest else None
    if manifest is None or spec_hash is None:
        raise FoundryError(
            "the workspace's autoencoder was not trained here; train it with --train-autoencoder"
        )
    folder = into / models.autoencoder.name
    source = store.local_folder("autoencoder")
    digest = folder_digest(source, OUTSIDE_MODEL_DIGEST)
    run, config = RunFolder(models.runs / spec_hash), manifest.provenance.config
    lineage = autoencoder_lineage(run, config, surroundings.landing.world_path, digest)
    card = autoencoder_card(source, lineage, surroundings.landing)

    def write(half: Path) -> None:
        shutil.copytree(source, half)
        (half / "lineage.json").write_text(json.dumps(lineage, indent=1) + "\n", encoding="utf-8")
        (half / "model_card.md").write_text(card, encoding="utf-8")

    replace_folder(folder, write)
    write_digest(folder.name, digest, into)
    return digest


def _pack(
    surroundings: Surroundings, name: str, into: Path, scenes: Any, judge: Any, tops: dict[str, Any]
) -> PackedTeacher:
    from assets.distillation.teacher_scores import CaptionTexts, Sampling, score_teacher, teacher_card
    from assets.models.backbones import loss_curve
    from assets.models.drawing import DrawingPlace, drawing_resources
    from evaluation.plots.contact_sheets import contact_sheet, inline_jpeg
    from training.model_folders.teachers import CURVE, SHEET, pack_teacher, round_weights, write_digest

    store, models = surroundings.store, surroundings.models
    model = store.local_folder("backbone", name, require_gate=True)
    rounded = round_weights(model, models.runs.parent / "rounded" / name)
    place = DrawingPlace(
        surroundings.compute, drawing_resources(models.resources), CaptionTexts, LOGGER.debug
    )
    scored = score_teacher(place, rounded, scenes, judge, surroundings.perception, Sampling(), tops)
    scores = {**scored.scores, **training_of(models.runs, model)}
    card = teacher_card((model / "model_card.md").read_text(encoding="utf-8"), scores)
    shown = slice(SHEET_PICTURES)
    sheet = inline_jpeg(contact_sheet([*scored.images[shown]], scenes.prompts[shown], columns=8))
    folder = into / "teachers" / name
    pictures = {SHEET: sheet, CURVE: loss_curve(run_of(models.runs, model))}
    digest = pack_teacher(rounded, folder, scores, card, pictures)
    write_digest(f"teachers/{name}", digest, into)
    return PackedTeacher(name, folder, digest, scores)


def run_of(runs: Path, model: Path) -> RunFolder:
    """The run of a published model, by the specification hash in its lineage."""
    return RunFolder(runs / json.loads((model / "lineage.json").read_text(encoding="utf-8"))[0]["spec_hash"])


def training_of(runs: Path, model: Path) -> dict[str, Any]:
    """What the run of a published model cost."""
    run = run_of(runs, model)
    done = run.read_done()
    if done is None:
        raise FoundryError(f"{run.path}: its run is not there, so nothing says what it cost; train it again")
    return {
        "spec_hash": run.path.name,
        "num_parameters": done.num_parameters,
        "images_seen": done.images_seen,
        "train_seconds": round(done.train_seconds),
    }
