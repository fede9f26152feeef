"""The comparison of models in a few columns, the same in the terminal and on the asset page."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pyarrow.compute as pc


def summary_rows(evaluation_table: pa.Table, split: str = "held_out") -> list[dict[str, Any]]:
    """One row per model over all held-out samples, by family and size."""
    table = evaluation_table.filter(pc.equal(evaluation_table["split"], split))
    ordered = table.sort_by([("family", "ascending"), ("parameters", "ascending"), ("seed", "ascending")])
    return [
        {
            "recipe": row["recipe"],
            "parameters": row["parameters"],
            "images seen": row["images_seen"],
            "denoising error": row["denoising_error"],
            "95% interval": f"{row['denoising_error_low']:.4f} to {row['denoising_error_high']:.4f}",
            "judge": row["judge_cosine"],
            "floor": row["judge_floor"],
            "ceiling": row["judge_ceiling"],
            "KID-EffLite0": row["kid_efflite0"],
            "seconds": row["training_seconds"],
        }
        for row in ordered.to_pylist()
    ]
