"""Starting from another model's weights: the parent of a recipe, and what must hold between the two.

A child shares its parent's latent space: the autoencoder in the parent's folder is, byte for byte, the one that made
the child's latents. Step distillation, fine-tuning and pruning all begin here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from training.backbones import blueprint, build_backbone
from training.diffusion.few_step_schedulers import read_scheduler_config
from training.diffusion.noise_process import Noising
from training.diffusion.schedulers import noising_of
from training.digests import sha256_bytes
from training.errors import FoundryError
from training.model_folders.classes import AUTOENCODER_FILES, backbone_part, load_part
from training.model_folders.stock_pipelines import autoencoder_file
from training.recipes.execution import Execution, input_folder
from training.recipes.specification import Recipe, TrainingSpecification


@dataclass(frozen=True)
class Parent:
    """A published diffusion model: ``backbone`` is a diffusers class in evaluation mode, ``noising`` its noise process."""

    name: str
    folder: Path
    backbone: Any  # one of training.model_folders.classes.BACKBONE_CLASSES
    noising: Noising


def load_parent(spec: TrainingSpecification, execution: Execution, *, own_backbone: bool = True) -> Parent:
    """The parent of a recipe, checked against backbone and autoencoder of the specification.

    ``own_backbone`` is false where the recipe's backbone is a student cut out of its parent.

    Raises FoundryError when ``execution.json`` does not say where it lies, it is no diffusion model, it was made in
    another latent space or with another text encoder, or the recipe names another backbone.
    """
    recipe = spec.recipe
    if recipe.parent is None:
        raise FoundryError(
            f"recipe '{recipe.name}': objective '{recipe.objective}' starts from a model; name it as 'parent'"
        )
    folder = input_folder(execution, "parent")
    check_latent_space(recipe, folder, input_folder(execution, "autoencoder"))
    check_text_encoder(
        folder, spec.inputs.get("text_encoder"), f"recipe '{recipe.name}': its parent '{recipe.parent}'"
    )
    backbone = load_backbone(folder)
    if recipe.backbone is not None and own_backbone:
        check_backbone(recipe, backbone)
    return Parent(recipe.parent, folder, backbone, noising_of(read_scheduler_config(folder)))


def initial_backbone(spec: TrainingSpecification, execution: Execution, noising: Noising) -> Any:
    """The backbone that a diffusion recipe trains: its parent's weights, or its own name's initialised by the seed.

    Raises FoundryError as :func:`load_parent` does, and when the parent predicts something else or was trained under other noise.
    """
    recipe = spec.recipe
    if recipe.parent is None:
        if recipe.backbone is None:
            raise FoundryError(f"recipe '{recipe.name}': names neither 'backbone' nor 'parent'; add one")
        return build_backbone(recipe.backbone, recipe.seed)
    parent = load_parent(spec, execution)
    difference = first_difference(asdict(noising), asdict(parent.noising))
    if difference is not None:
        key, wanted, found = difference
        raise FoundryError(
            f"recipe '{recipe.name}': 'diffusion' has {key} {wanted!r}, its parent '{parent.name}' has {found!r}; "
            "say what the parent has, or train from scratch"
        )
    return parent.backbone


def load_backbone(folder: Path) -> Any:
    """The backbone of a pipeline folder, float32. Raises FoundryError when the folder is no model."""
    part, kind = backbone_part(folder)
    return load_part(kind, folder / part)


def check_latent_space(recipe: Recipe, folder: Path, autoencoder_folder: Path) -> None:
    """Refuse a parent whose own autoencoder differs from the one that made the latents to train on."""
    for name in AUTOENCODER_FILES:
        own, ours = folder / "vae" / name, autoencoder_folder / name
        if not own.is_file():
            raise FoundryError(
                f"{own}: missing, so nobody can tell the latent space of parent '{recipe.parent}'; "
                "name the model/ folder of a finished run"
            )
        found, wanted = (sha256_bytes(autoencoder_file(path)) for path in (own, ours))
        if found != wanted:
            raise FoundryError(
                f"recipe '{recipe.name}': its parent '{recipe.parent}' was made in the latent space of another "
                f"autoencoder ({name} has digest {found[:12]}…, {autoencoder_folder} holds {wanted[:12]}…); "
                "name a parent trained on these latents"
            )


def check_text_encoder(folder: Path, wanted: str | None, who: str) -> None:
    """Refuse a model that its own lineage says was made with another text encoder than the one of this digest.

    A folder without lineage, such as a published one, tells nothing; its widths are checked when the data are opened.
    ``who`` begins the sentence of the FoundryError.
    """
    path = folder / "lineage.json"
    if wanted is None or not path.is_file():
        return
    try:
        records = json.loads(path.read_text(encoding="utf-8"))
        found = {record["digest"] for record in records if record["version"] == "text_encoder"}
    except (ValueError, TypeError, KeyError) as error:
        raise FoundryError(f"{path}: is no lineage ({error!r}); publish the model again") from error
    if found and wanted not in found:
        raise FoundryError(
            f"{who} was made with another text encoder (digest {min(found)[:12]}…, the captions here are encoded by "
            f"{wanted[:12]}…); name a model that shares it, or encode the captions with that model's"
        )


def check_backbone(recipe: Recipe, backbone: Any, of: str = "its parent") -> None:
    """Refuse a recipe that names another backbone than its parent (or what is made of it) is."""
    named = blueprint(str(recipe.backbone))
    difference = first_difference(_architecture(named), _architecture(backbone))
    if difference is not None:
        key, wanted, found = difference
        raise FoundryError(
            f"recipe '{recipe.name}': 'backbone' is '{recipe.backbone}' with {key} {wanted}, {of} "
            f"'{recipe.parent}' has {key} {found}; leave 'backbone' out or name the parent's"
        )


def first_difference(
    wanted: Mapping[str, Any], found: Mapping[str, Any]
) -> tuple[str, object, object] | None:
    """The first key whose values differ, with both; None where all agree."""
    for key in sorted({*wanted, *found}):
        if wanted.get(key) != found.get(key):
            return key, wanted.get(key), found.get(key)
    return None


def _architecture(backbone: Any) -> dict[str, Any]:
    """Class and settings; lists and tuples count as the same, for JSON knows only lists."""
    settings = {
        key: list(value) if isinstance(value, (list, tuple)) else value
        for key, value in backbone.config.items()
        if not key.startswith("_")
    }
    return {"class": type(backbone).__name__, **settings}
