"""Commands over structured pruning."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from orchestration.command.arguments import AsJson
from orchestration.command.output import console, print_rows
from training.errors import FoundryError

if TYPE_CHECKING:
    from training.pruning.removal_plan import RemovalPlan

commands = typer.Typer()


@commands.command("prune-plan")
def prune_plan(
    model: Annotated[str, typer.Argument(help="registry name, or folder of a diffusers pipeline")],
    sparsity: Annotated[
        str, typer.Option(help="share of units that goes, such as 0.2; by kind: heads=0.2,ffn=0.3")
    ],
    kinds: Annotated[
        str, typer.Option(help="units with commas between: heads, ffn, and norm (adaLN channels, FLUX only)")
    ] = "heads,ffn",
    scope: Annotated[
        str, typer.Option(help="layer: the same share of each module; global: ranked together by --scores")
    ] = "layer",
    scores: Annotated[
        Path | None,
        typer.Option(help="mask file for --scope global: safetensors with scores named kind/name"),
    ] = None,
    per_parameter: Annotated[
        bool, typer.Option("--per-parameter", help="rank by score per parameter of a unit")
    ] = False,
    legacy: Annotated[
        bool, typer.Option("--legacy", help="FLUX: no single-block neurons, norm1_context alone of norms")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Say before any training what pruning takes away: parameters, and units of each kind and module."""
    from training.pruning.discrete_masks import scope_named
    from training.pruning.ratios import ratios_named
    from training.pruning.removal_plan import backbone_on_meta, plan_removal
    from training.pruning.scores import read_scores
    from training.pruning.units import kinds_named, unit_groups

    chosen, named_scope = kinds_named(kinds), scope_named(scope)
    if named_scope == "layer" and (scores is not None or per_parameter):
        raise FoundryError(
            "--scores and --per-parameter rank all units together; give --scope global with them"
        )
    backbone = backbone_on_meta(model)
    groups = unit_groups(backbone, chosen, legacy=legacy)
    plan = plan_removal(
        backbone,
        ratios_named(sparsity, chosen),
        chosen,
        named_scope,
        scores=None if scores is None else read_scores(scores),
        costs={group.key: group.parameters_per_unit for group in groups} if per_parameter else None,
        legacy=legacy,
    )
    _print_plan(model, plan, as_json=as_json)


def _print_plan(model: str, plan: RemovalPlan, *, as_json: bool) -> None:
    by_kind = [_kind_row(plan, kind) for kind in dict.fromkeys(each.group.kind for each in plan.groups)]
    total = {
        "model": model,
        "params": plan.params,
        "removed": plan.removed,
        "kept": plan.kept,
        "parameter_sparsity": plan.removed / plan.params,
    }
    if as_json:
        print_rows([total | {"kinds": by_kind, "layers": _layer_rows(plan)}], as_json=True)
        return
    print_rows(_layer_rows(plan), as_json=False, title=f"{model}: units of each module")
    print_rows(by_kind, as_json=False, title="by kind")
    console.print(
        f"{plan.params:,} parameters: {plan.removed:,} removed ({plan.removed / plan.params:.3%}), {plan.kept:,} kept; "
        f"{plan.removed_units / plan.units:.3%} of the units of these kinds go.",
        highlight=False,
        soft_wrap=True,
    )


def _kind_row(plan: RemovalPlan, kind: Any) -> dict[str, Any]:
    part = plan.of_kind(kind)
    return {
        "kind": kind,
        "modules": len(part.groups),
        "units": part.units,
        "kept_units": part.units - part.removed_units,
        "removed_units": part.removed_units,
        "unit_sparsity": part.removed_units / part.units,
        "removed_parameters": part.removed,
        "parameter_sparsity": part.removed / plan.params,
    }


def _layer_rows(plan: RemovalPlan) -> list[dict[str, Any]]:
    return [
        {
            "kind": each.group.kind,
            "name": each.group.name,
            "units": each.group.num_units,
            "kept_units": each.kept,
            "removed_units": each.removed,
            "parameters_per_unit": each.group.parameters_per_unit,
            "removed_parameters": each.removed_parameters,
        }
        for each in plan.groups
    ]
