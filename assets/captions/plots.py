"""Caption statistics as pictures: the sets side by side, lengths, and how the vocabulary grows."""

from __future__ import annotations

import pyarrow as pa


def statistics_figures(statistics: pa.Table) -> dict[str, bytes]:
    """File name -> PNG of every figure of a caption statistics table."""
    return {
        "caption_comparison.png": comparison_figure(statistics),
        "caption_lengths.png": length_figure(statistics),
        "vocabulary_growth.png": growth_figure(statistics),
    }


def comparison_figure(statistics: pa.Table) -> bytes:
    """PNG with a panel a figure (nouns per image, different nouns, words, near-duplicates) and a bar a set."""
    from evaluation.plots.panels import Panel, panels_of_bars

    rows = statistics.to_pylist()
    names = [row["captions"] for row in rows]
    panels = {
        "nouns per image": "nouns_per_image",
        "different nouns": "unique_nouns",
        "words per caption": "words_per_caption",
        "near-duplicate share": "near_duplicate_share",
    }
    return panels_of_bars(
        [Panel(title, {"": [float(row[column]) for row in rows]}) for title, column in panels.items()], names
    )


def length_figure(statistics: pa.Table) -> bytes:
    """PNG with the share of captions of each length in words, a line a set."""
    import numpy as np

    from evaluation.plots.panels import Line, lines

    found = []
    for row in statistics.to_pylist():
        counts = np.array(row["words_histogram"], dtype=np.float64)
        found.append(
            Line(row["captions"], np.arange(len(counts), dtype=np.float64), counts / max(counts.sum(), 1.0))
        )
    return lines(found, title="Length of captions", x_label="words", y_label="share of captions")


def growth_figure(statistics: pa.Table) -> bytes:
    """PNG with the number of different nouns among the first n captions of a random order, a line a set."""
    import numpy as np

    from evaluation.plots.panels import Line, lines

    found = [
        Line(
            row["captions"],
            np.array(row["growth_captions"], dtype=np.float64),
            np.array(row["growth_unique_nouns"], dtype=np.float64),
        )
        for row in statistics.to_pylist()
        if row["growth_captions"]
    ]
    return lines(
        found, title="Vocabulary growth", x_label="captions seen", y_label="different nouns", log_axes=True
    )
