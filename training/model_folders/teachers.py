"""Trained backbones that ship with the project: packed without what the graph has already, put together when needed.

A packed teacher has its weights in fp16, its scheduler, probe, card, lineage and scores, but no autoencoder: it paints
in the latents of the shipped one, which is added when the teacher is published into a workspace.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from training.digests import folder_digest, sha256_file
from training.errors import FoundryError
from training.model_folders.text_encoding import SAMPLING
from training.packaged_models import SHIPPED, SHIPPED_AUTOENCODER, digests_below
from training.run_folder import replace_folder

TEACHERS, WRITERS = SHIPPED / "teachers", SHIPPED / "writers"
SCORES, CARD, LINEAGE = "scores.json", "model_card.md", "lineage.json"
SHEET, CURVE = "samples.jpg", "loss_curve.jpg"
BESIDE = (SCORES, CARD, LINEAGE, SHEET, CURVE)


def read_scores(name: str, folder: Path = TEACHERS) -> dict[str, Any]:
    """What a model scored when it was packed into ``folder``. Raises FoundryError when there is none of that name."""
    return dict(json.loads((shipped_folder(name, folder) / SCORES).read_text(encoding="utf-8")))


def pack_teacher(
    model: Path, into: Path, scores: Mapping[str, Any], card: str, pictures: Mapping[str, bytes]
) -> str:
    """Write the teacher folder ``into`` from a published pipeline and return its content digest.

    ``pictures``: the :data:`SHEET` of what it draws and the :data:`CURVE` of its training.

    Weights are rounded to fp16, and the probe is the answer of the rounded ones: what is scored is what ships, so
    score a pipeline that :func:`round_weights` made. An older folder there is replaced.
    """
    from training.model_folders.classes import backbone_part

    part, _ = backbone_part(model)

    def write(half: Path) -> None:
        for name in (part, "scheduler"):
            shutil.copytree(model / name, half / name)
        for name in ("model_index.json", "probe.safetensors", LINEAGE):
            shutil.copyfile(model / name, half / name)
        if (model / SAMPLING).is_file():
            shutil.copyfile(model / SAMPLING, half / SAMPLING)
        (half / SCORES).write_text(json.dumps(scores, indent=1) + "\n", encoding="utf-8")
        (half / CARD).write_text(card, encoding="utf-8")
        for name, picture in pictures.items():
            (half / name).write_bytes(picture)

    replace_folder(into, write)
    return content_digest(into)


def round_weights(model: Path, into: Path) -> Path:
    """A copy of a pipeline folder whose backbone is stored in fp16, with the probe that fits it."""
    import torch
    from safetensors.torch import save_file

    from training.model_folders.classes import backbone_part
    from training.model_folders.export import save_backbone
    from training.model_folders.parents import load_backbone
    from training.model_folders.probe import probe
    from training.run_folder import PROBE

    part, _ = backbone_part(model)
    shutil.rmtree(into, ignore_errors=True)
    shutil.copytree(model, into, ignore=shutil.ignore_patterns(part, "raw", PROBE))
    save_backbone(load_backbone(model).to(torch.float16), into / part)
    save_file({"output": probe(load_backbone(into))}, into / PROBE)
    return into


def content_digest(folder: Path) -> str:
    """sha256 over what makes the model: card, lineage, scores and pictures travel outside it."""
    return folder_digest(folder, BESIDE)


def assemble_teacher(name: str, autoencoder: Path, into: Path, folder: Path = TEACHERS) -> Path:
    """A shipped teacher with its autoencoder: a pipeline folder that stock classes load.

    Raises FoundryError for an unknown name, for files that are not those that were shipped, and for an autoencoder
    other than the one in whose latents it was trained.
    """
    from training.model_folders.classes import AUTOENCODER_FILES

    source, wanted = shipped_folder(name, folder), digests_below(f"{folder.name}/").get(name)
    if folder.parent == SHIPPED and content_digest(source) != wanted:
        raise FoundryError(
            f"{source}: its digest is not {str(wanted)[:12]}… as shipped; restore the folder from the repository"
        )
    for file in AUTOENCODER_FILES:
        if sha256_file(autoencoder / file) != sha256_file(SHIPPED_AUTOENCODER / file):
            raise FoundryError(
                f"teacher '{name}' paints in the latents of the shipped autoencoder, but {autoencoder / file} is "
                "another's; materialize autoencoder with train: false, or take the teachers out of the profile"
            )
    shutil.rmtree(into, ignore_errors=True)
    shutil.copytree(source, into)
    (into / "vae").mkdir()
    for file in AUTOENCODER_FILES:
        shutil.copyfile(autoencoder / file, into / "vae" / file)
    return into


def write_digest(key: str, digest: str, folder: Path = SHIPPED) -> None:
    """Record what was packed under ``folder``, where :func:`training.packaged_models.shipped_digests` finds it."""
    path = folder / "digests.json"
    known = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    path.write_text(json.dumps({**known, key: digest}, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def shipped_folder(name: str, folder: Path = TEACHERS) -> Path:
    """Where a packed model lies. Raises FoundryError for a name that is not in ``folder``."""
    known = sorted(path.name for path in folder.glob("*/") if (path / SCORES).is_file())
    if name not in known:
        raise FoundryError(
            f"no '{name}' is among the {folder.name} that ship with the project; the names are: "
            f"{', '.join(known) or 'none yet'}"
        )
    return folder / name
