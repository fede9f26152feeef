"""Parameters, multiply-adds and milliseconds of a backbone, by stage and kind of layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import nn

from evaluation.analysis.parts import KINDS, Part, parts_of, stage_order
from evaluation.analysis.timing import Timing
from training.backbones import LayerCost


@dataclass(frozen=True)
class Cell:
    """What one kind of layer holds and costs in one stage, for one forward pass.

    ``macs``: of linears and convolutions; ``product_macs``: of QK^T and AV. ``nanoseconds``: None where not timed.
    """

    stage: str
    kind: str
    parameters: int
    macs: int
    product_macs: int
    nanoseconds: int | None


def breakdown(model: nn.Module, costs: Mapping[str, LayerCost], timing: Timing | None = None) -> list[Cell]:
    """Cells that hold anything, by stage in the order of the pass, then kind. They add up to the model exactly."""
    parts = parts_of(model)
    parameters = _parameters(model, parts)
    counted: dict[Part, LayerCost] = {}
    for name, cost in costs.items():
        counted[parts[name]] = counted.get(parts[name], LayerCost()) + cost
    times = timing.parts if timing else {}
    cells = []
    for part in (Part(stage, kind) for stage in stage_order(model) for kind in KINDS):
        if part in parameters or part in counted or part in times:
            cost = counted.get(part, LayerCost())
            spent = times.get(part, 0) if timing else None
            cells.append(
                Cell(part.stage, part.kind, parameters.get(part, 0), cost.macs, cost.product_macs, spent)
            )
    return cells


def totals(cells: Sequence[Cell], by: str = "kind") -> dict[str, Cell]:
    """Cells added up over stages (``by`` kind) or over kinds (``by`` stage); 'all' adds up both."""
    found: dict[str, Cell] = {}
    for cell in sorted(cells, key=lambda cell: KINDS.index(cell.kind)) if by == "kind" else cells:
        for key in (str(getattr(cell, by)), "all"):
            found[key] = _sum(found[key], cell) if key in found else cell
    return found


def _sum(first: Cell, second: Cell) -> Cell:
    times = (first.nanoseconds, second.nanoseconds)
    return Cell(
        first.stage if first.stage == second.stage else "all",
        first.kind if first.kind == second.kind else "all",
        first.parameters + second.parameters,
        first.macs + second.macs,
        first.product_macs + second.product_macs,
        None if times[0] is None or times[1] is None else times[0] + times[1],
    )


def _parameters(model: nn.Module, parts: Mapping[str, Part]) -> dict[Part, int]:
    """Elements of the parameters that each part's modules own; a shared one counts once, as in the model."""
    found: dict[Part, int] = {}
    for name, parameter in model.named_parameters():
        owner = name.rpartition(".")[0]
        part = parts[owner] if owner else Part("output", "rest")  # PixArt's last scale and shift
        found[part] = found.get(part, 0) + parameter.numel()
    return found
