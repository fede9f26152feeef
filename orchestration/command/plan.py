"""``foundry plan``: what trainings will need, before anything runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from orchestration.command.output import console, print_rows, size_text
from orchestration.planning import (
    Wanted,
    branches_of,
    find_recipe,
    machine_settings,
    profile_names,
    wanted_of,
)

if TYPE_CHECKING:
    from training.planning.training_plan import Machine, Plan, Remedy

GB = 1e9


def run(
    name: str, profile: str | None, given: Mapping[str, Any], default_profile: str, *, as_json: bool
) -> None:
    """Print the plan of a recipe, or of all recipes of a profile."""
    from training.planning.training_plan import Machine, plan_recipe

    options = {key: value for key, value in given.items() if value is not None}
    if profile is None and name in profile_names():
        machine = Machine(**{**machine_settings(name), **options})
        _table(name, wanted_of(name), machine, _branches(name, options), as_json=as_json)
        return
    where = profile or default_profile
    recipe = find_recipe(name, where)
    plan = plan_recipe(recipe, Machine(**{**machine_settings(where, name), **options}))
    _detail(plan, as_json=as_json)


def _branches(profile: str, options: Mapping[str, Any]) -> list[tuple[Wanted, Plan]]:
    """Plans of the profile's layout models, each on the machine that the profile names for it."""
    from training.planning.training_plan import Machine, plan_recipe

    return [
        (each, plan_recipe(each.recipe, Machine(**{**machine_settings(profile, each.label), **options})))
        for each in branches_of(profile)
    ]


def _table(
    profile: str,
    wanted: list[Wanted],
    machine: Machine,
    branches: list[tuple[Wanted, Plan]],
    *,
    as_json: bool,
) -> None:
    from training.planning.report import plan_row, totals
    from training.planning.training_plan import plan_recipe

    planned = [
        (each, plan_recipe(each.recipe, machine)) for each in wanted if each.recipe.objective == "diffusion"
    ]
    rows, of_branches = (
        [plan_row(each.label, plan, each.runs) for each, plan in part] for part in (planned, branches)
    )
    if as_json:
        print_rows([*rows, *of_branches], as_json=True)
        return
    projected = f"times are projected at {machine.mfu:.0%} of the peak"
    about = f"{machine.gpus} x {planned[0][1].gpu.name}, {machine.strategy}"
    title = f"plan of profile {profile}: {about}; {projected}"
    print_rows([_shown(row) for row in rows], as_json=False, title=title)
    if of_branches:
        title = f"branches beside a frozen base; {projected}"
        print_rows([_shown_branch(row) for row in of_branches], as_json=False, title=title)
    total = totals([*rows, *of_branches])
    console.print(_sentence(total, machine.price), highlight=False, markup=False, soft_wrap=True)


def _shown_branch(row: Mapping[str, Any]) -> dict[str, Any]:
    """With what trains, and the machine, which each has of its own."""
    trained = {"trained": f"{row['trained_parameters'] / 1e6:,.4g}M"}
    machine = {"on": f"{row['gpus']} x {row['gpu']} {row['strategy']}"}
    return {**_shown(row), **trained, **machine}


def _shown(row: Mapping[str, Any]) -> dict[str, Any]:
    shown = {
        "recipe": row["recipe"],
        "runs": row["runs"],
        "parameters": f"{row['parameters'] / 1e6:,.4g}M",
        "GMACs": f"{row['macs'] / GB:,.4g}",
        "images seen": f"{row['images_total']:,}",
        "GFLOPs": f"{row['training_gflops']:.3g}",
        "GB a GPU": f"{row['memory']['total'] / GB:,.2f}",
        "fits": "yes" if row["fits"] else "no",
        "images/s": f"{row['images_per_second']:,.0f}",
        "GPU-hours": f"{row['gpu_hours']:,.4g}",
        "hours": f"{row['hours']:,.3g}",
    }
    return shown if row["cost"] is None else {**shown, "cost": f"{row['cost']:,.0f}"}


def _sentence(total: Mapping[str, Any], price: float | None) -> str:
    cost = "" if price is None else f", cost {total['cost']:,.0f} at {price:g} a GPU-hour"
    return f"All {total['runs']} runs: {total['training_gflops']:.3g} GFLOPs, {_hours(total['gpu_hours'])} GPU-hours{cost} (projected)."


def _hours(hours: float) -> str:
    """Whole hours from a hundred on, four digits below."""
    return f"{hours:,.0f}" if hours >= 100 else f"{hours:.4g}"


def _detail(plan: Plan, *, as_json: bool) -> None:
    from training.planning.report import plan_row
    from training.planning.training_plan import remedies

    ways = [] if plan.fits else remedies(plan)
    row = plan_row(plan.recipe.name, plan, 1)
    if as_json:
        print_rows([{**row, "remedies": [asdict(way) for way in ways]}], as_json=True)
        return
    print_rows([_shown(row)], as_json=False, title=_title(plan))
    parts = [{"part": part, "GB": f"{size / GB:,.3f}"} for part, size in row["memory"].items()]
    print_rows(parts, as_json=False, title="memory of one GPU when most is in use")
    console.print(_verdict(plan, ways), highlight=False, markup=False, soft_wrap=True)
    if row["storage"] is not None:
        _print_storage(row["storage"])
    else:
        console.print("Storage: the size of the data set is not known; give --images.")


def _title(plan: Plan) -> str:
    shares, branch = plan.shares, plan.setting.branch
    beside = (
        ""
        if branch is None
        else f" frozen in {plan.setting.base_format}, branch {branch.kind} of {plan.size.trained / 1e6:,.4g}M"
    )
    return (
        f"{plan.recipe.name}: {plan.backbone}{beside}, {plan.setting.precision}, {plan.recipe.optimizer.name}, {shares.gpus} x {plan.gpu.name} ({shares.strategy}), "
        f"{shares.passes} x {shares.images_per_pass} images a step and GPU; times are projected at {plan.mfu:.0%} of the peak"
    )


def _verdict(plan: Plan, ways: list[Remedy]) -> str:
    from training.planning.report import memory_of_remedy

    room = f"{plan.usable_bytes / GB:,.1f} of {plan.gpu.memory_bytes / GB:,.0f} GB of {plan.gpu.name} memory may be used"
    needs = f"{plan.memory.total / GB:,.2f} GB"
    if plan.fits:
        return f"It fits: {needs}; {room}."
    fitting = [way for way in ways if way.fits]
    if fitting:
        return (
            f"It does not fit: {needs}; {room}. It fits with: "
            + "; ".join(map(memory_of_remedy, fitting))
            + "."
        )
    tried = "; ".join(map(memory_of_remedy, ways)) or "nothing left to try"
    return f"It does not fit: {needs}; {room}. Not enough: {tried}. Take more GPUs with fsdp, or larger ones."


def _print_storage(storage: Mapping[str, Any]) -> None:
    rows = [
        {"what": f"latents of {storage['images']:,} images", "bytes": size_text(storage["latents"])},
        *(
            {
                "what": f"texts, {mode['mode']}: {storage['captions']} captions an image, {storage['encoder']}",
                "bytes": size_text(mode["stored_bytes"]),
                "GPU-hours of encoding": f"{mode['gpu_hours']:,.4g}",
                **({} if mode["cost"] is None else {"cost": f"{mode['cost']:,.0f}"}),
            }
            for mode in storage["texts"]
        ),
        {"what": f"{storage['kept_checkpoints']} checkpoints", "bytes": size_text(storage["checkpoints"])},
        {"what": "averages kept on the way", "bytes": size_text(storage["averages"])},
        {"what": "exports", "bytes": size_text(storage["exports"])},
    ]
    columns = list(dict.fromkeys(key for row in rows for key in row))
    print_rows([{key: row.get(key) for key in columns} for row in rows], as_json=False, title="storage")
