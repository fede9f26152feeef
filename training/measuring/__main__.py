"""``python -m training.measuring OUT [--smoke] [--minutes 9] [--only NAME ...]``: measure what is not measured yet.

Needs torch, diffusers, transformers, safetensors, numpy, pyarrow, pydantic, psutil and jaxtyping alone. Every measurement is a
JSON file in OUT; a call starts no new one after its minutes and the next call goes on, on the same kind of device.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import torch

from training.errors import FoundryError
from training.hardware import hardware_name
from training.measuring.cases import measurements
from training.measuring.rows import release_memory
from training.run_folder import write_text_atomic

EXIT_UNFINISHED = 75  # EX_TEMPFAIL: call again


def main(arguments: list[str] | None = None) -> int:
    """Measure until done or out of time; print all results so far as one table."""
    options = _parse(arguments)
    device = "cuda" if torch.cuda.is_available() and not options.smoke else "cpu"
    chosen = _chosen(options.only)
    options.out.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + 60 * options.minutes
    missing = [name for name in chosen if not _path(options.out, name, options.smoke).exists()]
    for name in missing:
        if time.monotonic() > deadline:
            break
        _say(f"measuring {name}")
        _measure(name, device, options)
    rows = [
        json.loads(p.read_text())
        for name in chosen
        if (p := _path(options.out, name, options.smoke)).exists()
    ]
    _say(_table(rows))
    left = len(chosen) - len(rows)
    if left:
        _say(f"{left} of {len(chosen)} still to measure: call again")
    return EXIT_UNFINISHED if left else 0


def _measure(name: str, device: str, options: argparse.Namespace) -> None:
    """A model that does not fit is a result too: it is told by name, and others are measured."""
    about = {
        "name": name,
        "device": hardware_name(device, torch.get_num_threads()),
        "torch": torch.__version__,
        "smoke": options.smoke,
    }
    try:
        row: dict[str, Any] = measurements()[name](device, options.smoke)
    except torch.OutOfMemoryError as error:
        row = {"error": f"does not fit: {str(error).splitlines()[0]}"}
    write_text_atomic(_path(options.out, name, options.smoke), json.dumps({**about, **row}, indent=1))
    release_memory()


def _chosen(only: list[str]) -> list[str]:
    names = list(measurements())
    unknown = [name for name in only if name not in names]
    if unknown:
        raise FoundryError(f"--only names '{unknown[0]}'; allowed are {', '.join(names)}")
    return only or names


def _path(out: Path, name: str, smoke: bool) -> Path:
    return out / f"{'smoke.' if smoke else ''}{name}.json"


def _table(rows: list[dict[str, Any]]) -> str:
    columns = (
        "name",
        "backbone",
        "batch_size",
        "milliseconds",
        "images_per_second",
        "mfu",
        "peak_gib",
        "planned_gib",
        "parameters",
        "speedup",
        "ratio",
        "error",
    )
    lines = [[_cell(row.get(column)) for column in columns] for row in rows]
    widths = [max(len(line[i]) for line in [list(columns), *lines]) for i in range(len(columns))]
    return "\n".join(
        "  ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)) for line in [columns, *lines]
    )


def _cell(value: object) -> str:
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _say(text: str) -> None:
    print(text, file=sys.stdout, flush=True)  # noqa: T201 (a command's output)


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m training.measuring", description=__doc__)
    parser.add_argument("out", type=Path, help="folder of the results; call again with it to go on")
    parser.add_argument(
        "--smoke", action="store_true", help="smallest models on the CPU, to see that all parts work"
    )
    parser.add_argument("--minutes", type=float, default=9.0, help="start nothing new after so many minutes")
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME", help="these measurements alone")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except FoundryError as error:
        _say(str(error))
        sys.exit(1)
