"""The picture and the tables of an analysis: where size and time lie, and how alike the blocks are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from evaluation.plots.basic import COLORS, STYLE, png_bytes

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from evaluation.analysis.backbone import Analysis
    from evaluation.analysis.breakdown import Cell
    from evaluation.analysis.similarity import BlockSimilarity

KIND_COLORS = {
    "self_attention": COLORS[0],
    "cross_attention": COLORS[1],
    "feed_forward": COLORS[2],
    "residual": COLORS[3],
    "rest": "#9ca3af",
}


def measures(cells: Sequence[Cell]) -> dict[str, list[int]]:
    """What the analysis adds up, by name, one number a cell: time only where it was measured."""
    found = {
        "parameters": [cell.parameters for cell in cells],
        "multiply-adds": [cell.macs + cell.product_macs for cell in cells],
    }
    times = [cell.nanoseconds for cell in cells if cell.nanoseconds is not None]
    return found | {"time": times} if len(times) == len(cells) else found


def analysis_picture(analysis: Analysis) -> bytes:
    """PNG: shares by stage and kind, and where data were looked at, similarity of blocks across depth."""
    panels = 2 if analysis.similarities else 1
    figure, axes = _panels(panels, len({cell.stage for cell in analysis.cells}))
    figure.suptitle(
        f"{analysis.name}: one image of {analysis.latent} x {analysis.latent} latents", fontweight="bold"
    )
    _draw_shares(axes[0], analysis.cells)
    if analysis.similarities:
        _draw_cosines(axes[1], analysis.similarities)
        _draw_cka(axes[2], analysis.similarities)
    return png_bytes(figure)


def _panels(panels: int, stages: int) -> tuple[Figure, list[Axes]]:
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with matplotlib.rc_context(STYLE):
        height = 1.2 + 0.5 * stages
        figure = Figure(figsize=(8.4, height if panels == 1 else height + 3.4), dpi=150, layout="constrained")
        FigureCanvasAgg(figure)
        if panels == 1:
            return figure, [figure.add_subplot()]
        grid = figure.add_gridspec(2, 2, height_ratios=(height, 3.4))
        return figure, [figure.add_subplot(part) for part in (grid[0, :], grid[1, 0], grid[1, 1])]


def _draw_shares(axes: Axes, cells: Sequence[Cell]) -> None:
    """Per stage one bar a measure, in percent of the whole model, made of its kinds of layers."""
    stages = list(dict.fromkeys(cell.stage for cell in cells))
    values = measures(cells)
    thick = 0.8 / len(values)
    for row, (name, numbers) in enumerate(values.items()):
        whole = max(sum(numbers), 1)
        ends = dict.fromkeys(stages, 0.0)
        offset = (row - (len(values) - 1) / 2) * thick
        for cell, number in zip(cells, numbers, strict=True):
            place, share = stages.index(cell.stage) + offset, 100 * number / whole
            axes.barh(place, share, left=ends[cell.stage], height=0.92 * thick, color=KIND_COLORS[cell.kind])
            ends[cell.stage] += share
        for stage, end in ends.items():
            axes.annotate(
                f"{end:.1f} % {name}", (end, stages.index(stage) + offset), (3, 0),
                textcoords="offset points", va="center", fontsize=6.5,
            )  # fmt: skip
    axes.set_yticks(range(len(stages)), stages)
    axes.set_ylim(len(stages) - 0.45, -0.55)
    axes.grid(visible=False, axis="y")
    axes.margins(x=0.2)
    axes.set_xlabel("share of the whole model, %")
    axes.legend(handles=_kind_handles(cells), fontsize=8, loc="lower right", frameon=False)


def _kind_handles(cells: Sequence[Cell]) -> list[Any]:
    from matplotlib.patches import Patch

    there = {cell.kind for cell in cells}
    return [
        Patch(color=color, label=kind.replace("_", "-"))
        for kind, color in KIND_COLORS.items()
        if kind in there
    ]


def _draw_cosines(axes: Axes, similarities: Sequence[BlockSimilarity]) -> None:
    for number, level in enumerate(_levels(similarities)):
        points = [(row.index, row.cosine) for row in similarities if row.level == level]
        cosines = [(index, cosine) for index, cosine in points if cosine is not None]
        axes.plot(
            [index for index, _ in cosines], [cosine for _, cosine in cosines],
            "o-", color=COLORS[number % len(COLORS)], markersize=3, linewidth=1.4, label=f"t = {level:g}",
        )  # fmt: skip
    axes.set_title("cosine of a block's input and output", loc="left", fontsize=9)
    axes.set(xlabel="block", ylabel="cosine")
    axes.legend(fontsize=8, frameon=False)


def _draw_cka(axes: Axes, similarities: Sequence[BlockSimilarity]) -> None:
    from matplotlib.ticker import MaxNLocator

    levels = _levels(similarities)
    level = levels[len(levels) // 2]
    matrix = np.array([row.cka for row in similarities if row.level == level])
    image = axes.imshow(matrix, vmin=0, vmax=1, cmap="viridis", origin="lower")
    axes.grid(visible=False)
    axes.set_title(f"linear CKA between blocks, t = {level:g}", loc="left", fontsize=9)
    axes.set(xlabel="block", ylabel="block")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(integer=True))
    axes.figure.colorbar(image, ax=axes, shrink=0.8)


def _levels(similarities: Sequence[BlockSimilarity]) -> list[float]:
    return list(dict.fromkeys(row.level for row in similarities))


def part_rows(analysis: Analysis) -> list[dict[str, Any]]:
    """One record a cell, in the order of the pass; ``milliseconds`` is None where nothing was timed."""
    stages = list(dict.fromkeys(cell.stage for cell in analysis.cells))
    return [
        {
            "stage_index": stages.index(cell.stage),
            "stage": cell.stage,
            "kind": cell.kind,
            "parameters": cell.parameters,
            "macs": cell.macs,
            "attention_product_macs": cell.product_macs,
            "milliseconds": None if cell.nanoseconds is None else cell.nanoseconds / 1e6,
        }
        for cell in analysis.cells
    ]


def total_rows(found: Mapping[str, Cell]) -> list[dict[str, Any]]:
    """Sums of :func:`evaluation.analysis.breakdown.totals` for a table that people read, the whole last."""
    whole = found["all"]
    ordered = {**{name: cell for name, cell in found.items() if name != "all"}, "all": whole}
    return [
        {
            "part": name,
            "parameters": cell.parameters,
            "share": f"{cell.parameters / whole.parameters:.1%}",
            "GMACs": (cell.macs + cell.product_macs) / 1e9,
            "share of GMACs": f"{(cell.macs + cell.product_macs) / (whole.macs + whole.product_macs):.1%}",
            "ms": None if cell.nanoseconds is None else cell.nanoseconds / 1e6,
        }
        for name, cell in ordered.items()
    ]


def similarity_rows(analysis: Analysis) -> list[dict[str, Any]]:
    """One record a block and noise level, in the order of the pass."""
    return [
        {
            "noise_level": row.level,
            "block_index": row.index,
            "block": row.block,
            "cosine": row.cosine,
            "cka": list(row.cka),
        }
        for row in analysis.similarities
    ]
