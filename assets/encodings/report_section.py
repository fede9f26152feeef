"""What the report says of the autoencoder: how much of a picture its latents keep."""

from __future__ import annotations

import pyarrow as pa

from assets.pages.measures import MEASURES, measure, measures_table
from assets.pages.sections import Section, Sources
from evaluation.intervals import mean_interval


def autoencoder_section(sources: Sources) -> Section:
    """Mean reconstruction error over all encoded images."""
    rows = []
    if sources.store.partitions("image_latents"):
        errors = sources.store.read_all("image_latents", ["reconstruction_error"])["reconstruction_error"]
        value = mean_interval(errors.to_numpy().astype(float))
        remark = "pixels in [-1, 1]; no backbone behind it can be better"
        name = "mean squared reconstruction error"
        rows.append(measure(name, "all splits", value, oracle=0.0, remark=remark))
    return Section(
        "Autoencoder",
        "autoencoder",
        ["What the latents keep: no model can be sharper than this."],
        [measures_table(pa.Table.from_pylist(rows, schema=MEASURES))],
        missing="Materialize image_latents.",
    )
