"""Layout branches that ship: packed in fp16 without their base, which ships as a teacher, and grown on it when needed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from training.digests import folder_digest
from training.errors import FoundryError
from training.model_folders.teachers import (
    BESIDE,
    CARD,
    LINEAGE,
    SCORES,
    content_digest,
    shipped_folder,
)
from training.packaged_models import SHIPPED, layout_model_digests, teacher_digests
from training.recipes.layout import BRANCH, CONFIG
from training.run_folder import PROBE, replace_folder

LAYOUT_MODELS = SHIPPED / "layout_models"
BASE_NAME = "base_name"


@dataclass(frozen=True)
class Base:
    """The shipped teacher that a branch is for: its name, and the content digest under which it ships."""

    name: str
    digest: str


def round_branch(branch: Path, base: Base, into: Path) -> Path:
    """A copy of a branch folder in fp16 that names a shipped teacher as its base."""
    import torch
    from safetensors.torch import load_file, save_file

    shutil.rmtree(into, ignore_errors=True)
    into.mkdir(parents=True)
    tensors = {name: value.to(torch.float16) for name, value in load_file(branch / BRANCH).items()}
    save_file(tensors, into / BRANCH, metadata={"format": "pt"})
    told = json.loads((branch / CONFIG).read_text(encoding="utf-8"))
    told |= {"base_digest": base.digest, BASE_NAME: base.name}
    (into / CONFIG).write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
    return into


def grow_pipeline(branch: Path, teacher: Path, base_digest: str, into: Path) -> Path:
    """The pipeline folder of a teacher with a branch; stock classes and ours load it.

    ``teacher``: its assembled pipeline folder; ``base_digest``: the content digest under which it ships. Raises FoundryError as
    :func:`training.layout.folders.load_branch` does.
    """
    from training.diffusion.few_step_schedulers import read_scheduler_config
    from training.diffusion.schedulers import noising_of
    from training.layout.folders import load_branch
    from training.model_folders.export import export_pipeline
    from training.model_folders.parents import load_backbone

    model = load_branch(load_backbone(teacher), branch, base_digest).eval()
    shutil.rmtree(into, ignore_errors=True)
    noising = noising_of(read_scheduler_config(teacher))
    export_pipeline(into, model, teacher / "vae", noising, parent=teacher)
    return into


def pack_layout_model(
    rounded: Path,
    whole: Path,
    into: Path,
    scores: Mapping[str, Any],
    card: str,
    pictures: Mapping[str, bytes],
) -> str:
    """Write what ships of a layout model into the folder ``into`` and return its content digest.

    ``rounded``: of :func:`round_branch`; ``whole``: of :func:`grow_pipeline` with it, whose probe and lineage are kept and which
    is what was scored. An older folder there is replaced.
    """

    def write(half: Path) -> None:
        half.mkdir(parents=True)
        for name in (BRANCH, CONFIG):
            shutil.copyfile(rounded / name, half / name)
        for name in (PROBE, LINEAGE):
            shutil.copyfile(whole / name, half / name)
        (half / SCORES).write_text(json.dumps(scores, indent=1) + "\n", encoding="utf-8")
        (half / CARD).write_text(card, encoding="utf-8")
        for name, picture in pictures.items():
            (half / name).write_bytes(picture)

    replace_folder(into, write)
    return content_digest(into)


def assemble_layout_model(name: str, teacher: Path, into: Path, folder: Path = LAYOUT_MODELS) -> Path:
    """A shipped layout model as a pipeline folder: the branch grown on its teacher.

    ``teacher``: the pipeline folder of the shipped teacher that it names. Raises FoundryError for an unknown name, for files that
    are not those that were shipped, and for a teacher that ships with other weights than the branch was trained beside.
    """
    source, wanted = shipped_folder(name, folder), layout_model_digests().get(name)
    if folder == LAYOUT_MODELS and folder_digest(source, BESIDE) != wanted:
        raise FoundryError(
            f"{source}: its digest is not {str(wanted)[:12]}… as shipped; restore the folder from the repository"
        )
    grow_pipeline(source, teacher, teacher_digests().get(base_of(name, folder), ""), into)
    for file in (PROBE, SCORES, LINEAGE, CARD):
        shutil.copyfile(source / file, into / file)
    return into


def base_of(name: str, folder: Path = LAYOUT_MODELS) -> str:
    """Name of the shipped teacher that a shipped branch is for. Raises FoundryError for an unknown name."""
    told = json.loads((shipped_folder(name, folder) / CONFIG).read_text(encoding="utf-8"))
    return str(told[BASE_NAME])
