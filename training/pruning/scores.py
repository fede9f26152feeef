"""Files of scores: safetensors with one vector for each module, named ``kind/name``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from training.errors import FoundryError
from training.pruning._layers import KINDS, UnitKey
from training.run_folder import write_bytes_atomic


def write_scores(path: Path, scores: Mapping[UnitKey, Tensor]) -> None:
    """Write scores, replacing an earlier file in one step."""
    named = {"/".join(key): value.detach().cpu().contiguous() for key, value in scores.items()}
    write_bytes_atomic(Path(path), save(named))


def read_scores(path: Path) -> dict[UnitKey, Tensor]:
    """Scores by kind and name, in the file's order.

    Raises FoundryError for a file that is missing or no safetensors, and for tensors of other names.
    """
    if not Path(path).is_file():
        raise FoundryError(
            f"{path}: there is no such file of scores; name a .safetensors with tensors 'kind/name'"
        )
    try:
        named = load_file(path)
    except (SafetensorError, OSError) as error:
        raise FoundryError(
            f"{path}: cannot be read as safetensors ({error}); write the scores again"
        ) from error
    found: dict[UnitKey, Tensor] = {}
    for full_name, value in named.items():
        text, _, name = full_name.partition("/")
        kind = next((kind for kind in KINDS if kind == text), None)
        if kind is None or not name:
            raise FoundryError(
                f"{path}: tensor '{full_name}' found, names are 'kind/name' with a kind of {', '.join(KINDS)}"
            )
        found[kind, name] = value
    return found
