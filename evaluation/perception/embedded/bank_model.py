"""What the embedded roles look through: Lite0 features against a bank of training concepts, ConSE, OCR.

The bank holds the training concepts' own pictures, or another art set's pictures of the same concepts; held-out
concepts are never in it. It is built once and kept in the cache. Light until a worker is built: no torch.
"""

from __future__ import annotations

import fcntl
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from evaluation.perception.embedded.identity import bank_inputs_digest, digest_with_bank, model_name
from evaluation.perception.embedded.settings import EmbeddedSettings
from evaluation.perception.role_models import BankInputs, BatchFunction, Factory, RoleModel, Workplace
from training.run_folder import write_bytes_atomic


def regions(settings: EmbeddedSettings, workplace: Workplace) -> RoleModel:
    """Regions, named where the bank or ConSE is sure enough."""
    return _model(settings, workplace, closed_set=False)


def closed_set(settings: EmbeddedSettings, workplace: Workplace) -> RoleModel:
    """Regions, every one named by the closest concept of the bank."""
    return _model(settings, workplace, closed_set=True)


def _model(settings: EmbeddedSettings, workplace: Workplace, *, closed_set: bool) -> RoleModel:
    art, how = settings.art, {"closed_set": closed_set, "known_drawings": settings.known_drawings}
    return RoleModel(
        model_name(art, closed_set=closed_set),
        ("image",),
        lambda: digest_with_bank(bank_inputs_digest(*workplace.bank_inputs(art)), **how),
        lambda: _worker(art, workplace, how),
        {"threads": workplace.threads, "keep_loaded": True},
    )


def _worker(art: str, workplace: Workplace, how: Mapping[str, bool]) -> tuple[Factory, Mapping[str, Any]]:
    """On this machine workers read the bank from the cache; to other machines its 7 MB travel along."""
    from evaluation.perception.embedded.perceiver import build_embedded_perceiver

    path = fitted_bank(workplace.bank_inputs(art), workplace.cache)
    settings = {"threads": workplace.threads, "art": art, **how}
    if workplace.workers_see_cache:
        return build_perceiver_from_file, {"bank": str(path), **settings}
    return build_embedded_perceiver, {"bank": path.read_bytes(), **settings}


def fitted_bank(inputs: BankInputs, cache: Path) -> Path:
    """File of the fitted bank, made unless these very inputs were fitted before."""
    from evaluation.perception.embedded.bank import build_bank

    path = cache / f"concept-bank-{bank_inputs_digest(*inputs)[:16]}.npz"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two runs that start together build it once
        if not path.exists():
            write_bytes_atomic(path, build_bank(*inputs).to_bytes())
    return path


def build_perceiver_from_file(bank: str, threads: int, art: str, **how: bool) -> BatchFunction:
    """The perceiver, inside a worker that sees the cache."""
    from evaluation.perception.embedded.perceiver import build_embedded_perceiver

    return build_embedded_perceiver(Path(bank).read_bytes(), threads=threads, art=art, **how)
