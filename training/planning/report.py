"""A plan as plain values, for JSON and for tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from training.planning.training_plan import KEPT_CHECKPOINTS, Plan, Remedy


def plan_row(label: str, plan: Plan, runs: int) -> dict[str, Any]:
    """Everything a plan says; memory and storage in bytes, time for ``runs`` trainings one after the other, projected."""
    compute = plan.compute
    memory = asdict(plan.memory)
    return {
        "recipe": label,
        "runs": runs,
        "backbone": plan.backbone,
        "parameters": plan.size.parameters,
        "trained_parameters": plan.size.trained,
        "optimizer": plan.recipe.optimizer.name,
        "macs": compute.macs,
        "macs_with_attention": compute.macs_with_attention,
        "images_total": plan.recipe.images_total,
        "batch_size": plan.recipe.batch_size,
        "gpus": plan.shares.gpus,
        "gpu": plan.gpu.name,
        "strategy": plan.shares.strategy,
        "precision": plan.setting.precision,
        "checkpointing": plan.setting.checkpointing,
        "images_per_pass": plan.shares.images_per_pass,
        "micro_batches": plan.shares.passes,
        "memory": {**memory, "total": plan.memory.total},
        "usable_bytes": plan.usable_bytes,
        "fits": plan.fits,
        "projected": True,
        "mfu": plan.mfu,
        "training_gflops": runs * compute.training_flops / 1e9,
        "images_per_second": compute.images_per_second,
        "gpu_hours": runs * compute.gpu_hours,
        "hours": runs * compute.hours,
        "cost": None if plan.cost is None else runs * plan.cost,
        "storage": _storage(plan),
    }


def totals(rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Sums over all rows of a table; cost is 0 where no price was given."""
    sums = {key: sum(row[key] for row in rows) for key in ("runs", "training_gflops", "gpu_hours")}
    return {**sums, "cost": sum(row["cost"] or 0.0 for row in rows)}


def memory_of_remedy(remedy: Remedy) -> str:
    """A change and what it leads to."""
    return f"{remedy.change} ({remedy.total_bytes / 1e9:,.2f} GB)"


def _storage(plan: Plan) -> dict[str, Any] | None:
    found = plan.storage
    if found is None:
        return None
    encoding = plan.encoding_rate
    texts = [
        {
            **asdict(text),
            "gpu_hours": encoding.gpu_hours(text.encode_flops),
            "cost": None if plan.price is None else encoding.gpu_hours(text.encode_flops) * plan.price,
        }
        for text in found.texts
    ]
    return {
        "images": found.images,
        "captions": found.captions,
        "latents": found.latents,
        "encoder": found.encoder.name,
        "texts": texts,
        "kept_checkpoints": KEPT_CHECKPOINTS,
        "checkpoints": found.checkpoints,
        "averages": found.averages,
        "exports": found.exports,
    }
