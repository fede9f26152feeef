"""Where a checkpoint lies and what it is: its folder, its family and the digest of its files. Light: no torch."""

from __future__ import annotations

import json
import re
from contextlib import suppress
from pathlib import Path
from typing import Any

from evaluation.perception.hub.families import FAMILIES
from training.digests import canonical_json, sha256_bytes, sha256_file
from training.errors import FoundryError
from training.run_folder import write_text_atomic

COUNTED_SUFFIXES = (".safetensors", ".json", ".txt", ".model", ".jinja", ".tiktoken")
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?")


def resolve_folder(path: str, revision: str | None = None) -> Path:
    """The local folder of a checkpoint: ``path`` itself, or the snapshot of a hub id.

    Only files that can be loaded without running their code are fetched; nothing is when HF_HUB_OFFLINE is set.
    Raises FoundryError naming the path or id and the remedy.
    """
    folder = Path(path).expanduser()
    if folder.is_dir():
        return folder.resolve()
    if folder.is_file() or path.startswith((".", "/", "~")) or not _HUB_ID.fullmatch(path):
        raise FoundryError(
            f"path '{path}': no such folder. Give the folder of a checkpoint (with config.json and *.safetensors), "
            "or a hub id such as org/name."
        )
    return _snapshot(path, revision)


def _snapshot(repository: str, revision: str | None) -> Path:
    from huggingface_hub import constants, snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    offline = bool(constants.HF_HUB_OFFLINE)
    try:
        found = snapshot_download(
            repository,
            revision=revision,
            local_files_only=offline,
            allow_patterns=[f"*{suffix}" for suffix in COUNTED_SUFFIXES],
        )
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, ConnectionError) as error:
        why = (
            "the hub is switched off (HF_HUB_OFFLINE) and it is not in the local cache"
            if offline
            else str(error)
        )
        at = f" at revision '{revision}'" if revision else ""
        raise FoundryError(
            f"path '{repository}'{at}: no such folder here, and as a hub id it could not be had: {why}. Download it "
            f"where there is a network (hf download {repository}), or give the path of a local folder."
        ) from error
    return Path(found)


def check_checkpoint(folder: Path, family: str) -> dict[str, Any]:
    """config.json of a checkpoint of this family with safetensors weights.

    Raises FoundryError where the configuration is missing or of another family, or the weights are pickles.
    """
    config = read_config(folder / "config.json")
    classes = FAMILIES[family].classes
    model_type = str(config.get("model_type", ""))
    if classes and model_type not in classes:
        if model_type in FAMILIES[family].refused:
            raise FoundryError(f"{folder}: {FAMILIES[family].refused[model_type]}")
        other = next((name for name, entry in FAMILIES.items() if model_type in entry.classes), None)
        raise FoundryError(
            f"{folder / 'config.json'}: model_type is '{model_type}', but family '{family}' loads "
            f"{' or '.join(sorted(classes))}. "
            + (f"Set family to '{other}'." if other else "Give a checkpoint of that family.")
        )
    require_safetensors(folder)
    return config


def require_safetensors(folder: Path) -> None:
    """Raise FoundryError for a folder whose weights are pickles, or that has none."""
    if not any(folder.glob("*.safetensors")):
        pickles = sorted(path.name for pattern in ("*.bin", "*.pt", "*.pth") for path in folder.glob(pattern))
        found = f"only {', '.join(pickles)}, which can run code when loaded" if pickles else "none"
        raise FoundryError(
            f"{folder}: weights must be *.safetensors files; found {found}. Convert them with save_pretrained, or "
            "take a revision that has safetensors."
        )


def read_config(path: Path) -> dict[str, Any]:
    """A checkpoint's config.json. Raises FoundryError where it is missing or no JSON object."""
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise FoundryError(
            f"{path}: no readable configuration ({error}). Give the folder of a transformers checkpoint."
        ) from error
    if not isinstance(config, dict):
        raise FoundryError(f"{path}: holds no JSON object. Give the folder of a transformers checkpoint.")
    return config


def weights_digest(folder: Path, cache: Path | None = None) -> str:
    """sha256 over names and contents of the weight, tokenizer, processor and configuration files of a checkpoint.

    ``cache`` is a JSON file of digests by path, size and time of change, so that gigabytes are hashed once a machine.
    """
    known = _read_cache(cache)
    fresh: dict[str, str] = {}
    pairs = []
    for path in sorted(folder.iterdir(), key=lambda entry: entry.name):
        if path.suffix not in COUNTED_SUFFIXES or not path.is_file():
            continue
        stat = path.stat()  # of what a link points to: snapshots are made of links
        key = f"{path.resolve()}|{stat.st_size}|{stat.st_mtime_ns}"
        fresh[key] = known.get(key) or sha256_file(path)
        pairs.append([path.name, fresh[key]])
    if cache is not None and not fresh.keys() <= known.keys():
        with suppress(OSError, FoundryError):  # another machine may not have the place; it hashes every time
            cache.parent.mkdir(parents=True, exist_ok=True)
            write_text_atomic(cache, canonical_json(_read_cache(cache) | fresh), durable=False)
    return sha256_bytes(canonical_json(pairs).encode())


def _read_cache(cache: Path | None) -> dict[str, str]:
    """Digests known already; none where the file is missing or damaged, which costs time and nothing else."""
    if cache is None or not cache.is_file():
        return {}
    try:
        known = json.loads(cache.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError):
        return {}
    return known if isinstance(known, dict) else {}
