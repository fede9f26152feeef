"""The demo: the whole graph through Dagster, only what is not fresh, with times by stage of the ledger."""

from __future__ import annotations

import importlib
import json
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from assets.graph.interfaces import Surroundings
from assets.graph.model_kinds import ModelKind, ModelRecipes, Version
from assets.graph.steps import STEPS
from assets.models.parents import named_versions
from assets.models.phases import BACKBONES, STUDENTS
from assets.reports.ledger import LEDGER_FILE
from orchestration.catalog import partition_keys
from orchestration.freshness import needs_run, verified
from orchestration.grid import GRID_STEPS, largest_first
from orchestration.jobs import CONCLUDING, steps_of
from orchestration.launching import Launch, Outcome, launch_pool
from orchestration.profile import Profile
from orchestration.selection import wanted_models
from orchestration.workspace import Workspace
from training.errors import FoundryError

STAGE_OF_STEP: Mapping[str, str] = {
    "demo_scenes": "scenes",
    "landed_images": "scenes",
    "curated_images": "scenes",
    "regions": "perception",
    "recaptions": "perception",
    "caption_nouns": "perception",
    "caption_statistics": "perception",
    "entity_phrases": "perception",
    "entity_boxes": "perception",
    "entity_annotations": "perception",
    "entity_masks": "perception",
    "layout_benchmark": "perception",
    "annotation_pages": "report",
    "text_embeddings": "embeddings",
    "image_latents": "embeddings",
    "training_shards": "embeddings",
    "layout_shards": "embeddings",
    "autoencoder": "embeddings",
    "distillation_study": "evaluation",
    "pruning_comparison": "evaluation",
    "layout_evaluation": "evaluation",
    "localized_lora_comparison": "evaluation",
    "judge_clip": "judge",
    "scaling_run": "scaling grid",
    "scaling_scores": "scaling grid",
    "scaling_grid": "evaluation",
    "scaling_observations": "evaluation",
    "generated_samples": "evaluation",
    "backbone_analysis": "evaluation",
    "evaluation_table": "evaluation",
    "model_scores": "evaluation",
    "data_quality": "evaluation",
    "scaling_laws": "evaluation",
    "report": "report",
}
"""Stages of the ledger that steps count in; kinds of models say theirs in their row."""


Order = Callable[[Sequence[str]], Sequence[str]]
"""Partitions in the order in which they are launched."""

Stale = Callable[..., tuple[Launch, ...]]
"""Launches of a job for those of some partitions in which one of some steps is not fresh: of a job, names of steps,
partitions, the assets of the job to run where not all are meant, and the order of several."""


@dataclass(frozen=True)
class Phase:
    """Launches that may run side by side, and what they are for in a person's words."""

    title: str
    launches: tuple[Launch, ...]


@dataclass
class DemoResult:
    """What a demo did. ``seconds_by_stage`` is wall time, shared out among stages that ran side by side."""

    launched: list[Outcome] = field(default_factory=list)
    num_fresh: int = 0
    seconds_by_stage: dict[str, float] = field(default_factory=dict)

    @property
    def error(self) -> str | None:
        """The first failure's sentence, or None."""
        return next((f"{o.launch.label}: {o.error}" for o in self.launched if o.error), None)


def phases(
    profile: Profile,
    surroundings: Surroundings,
    train_autoencoder: bool,
    *,
    everything: bool = False,
    needs: Callable[[str, str | None], bool] | None = None,
) -> Iterator[Phase]:
    """What has to run, phase by phase; each is decided when the one before is done.

    ``everything`` adds the models that the profile does not name in ``demo_models``, the studies among them.
    ``needs`` says whether a version has to be made; without it, what is there is compared and its bytes are verified,
    and of several the largest models come first (to weigh them takes seconds).
    """
    in_order = needs is None
    needs = needs or partial(needs_run, profile, surroundings)

    def stale(
        job: str, names: Sequence[str], keys: Sequence[Any], assets: Sequence[str] = (), order: Order = list
    ) -> tuple[Launch, ...]:
        wanted: Sequence[Any] = [key for key in keys if any(needs(name, key) for name in names)]
        if in_order and len(wanted) > 1:
            wanted = order(wanted)
        return tuple(Launch(job, key, assets=tuple(assets), makes=tuple(names)) for key in wanted)

    scenes = stale("compose_scenes", ["demo_scenes"], [None]) if surroundings.landing.is_composed else ()
    if train_autoencoder:
        yield Phase("composing scenes", scenes)
        config = {"autoencoder": {"train": True}}
        yield Phase("autoencoder", (Launch("publish_autoencoder", config=config, makes=("autoencoder",)),))
    else:
        yield Phase("scenes and autoencoder", _keep_trained(surroundings, stale) + scenes)
    yield Phase(
        "captions, entities and latents", stale("refresh_group", steps_of("groups"), profile.group_keys)
    )
    yield Phase(
        "the dataset",
        stale(
            "assemble_dataset",
            ["caption_statistics", "layout_benchmark", "training_shards", "layout_shards"],
            [None],
        ),
    )
    yield from _model_phases(profile, stale, everything=everything)
    late = [name for name in CONCLUDING if name not in early_conclusions()]
    yield Phase("scores, laws and report", stale("draw_conclusions", late, [None], late))


def early_conclusions() -> list[str]:
    """Conclusions about data and backbones alone: they are drawn beside the models that are made from backbones."""
    late = {step.name for step in STEPS.values() if step.parents or step.partitioned_by == "grid"}
    early = []
    for name in CONCLUDING:  # upstream first
        if late.isdisjoint(STEPS[name].reads):
            early.append(name)
        else:
            late.add(name)
    return early


def _model_phases(profile: Profile, stale: Stale, *, everything: bool) -> Iterator[Phase]:
    """Every kind of model in the phases that its row names; judge, scaling grid and early conclusions run beside them."""
    wanted, placed = wanted_models(profile, everything=everything), phases_of_models(profile.recipes)
    made_from_others_first = sorted(profile.recipes.kinds, key=lambda kind: not STEPS[kind.asset].parents)
    for title in phase_titles(profile.recipes.kinds):
        here = {
            kind.asset: [key for key in wanted[kind.asset] if placed[kind.asset, key] == title]
            for kind in made_from_others_first
        }
        if not any(here.values()) and title not in (BACKBONES, STUDENTS):
            continue
        launches: tuple[Launch, ...] = ()
        if title == BACKBONES:
            launches = stale("train_judge", ["judge_clip"], [None])
        elif title == STUDENTS:
            launches = stale("draw_conclusions", early_conclusions(), [None], early_conclusions())
        for kind in made_from_others_first:
            if keys := here[kind.asset]:
                by_size = partial(_in_order, profile, kind)
                launches += stale(kind.job, steps_of(kind.asset), keys, order=by_size)
        if title == STUDENTS:
            of_grid = partial(largest_first, profile)
            launches += stale("train_grid_point", GRID_STEPS, profile.grid_keys, order=of_grid)
        yield Phase(title, launches)


def _in_order(profile: Profile, kind: ModelKind, keys: Sequence[str]) -> Sequence[str]:
    return kind.order({key: profile.of(kind.asset)[key] for key in keys})


def phase_titles(kinds: Iterable[ModelKind]) -> list[str]:
    """Titles of the phases in which models are made, in the order in which they run."""
    return list(dict.fromkeys(title for kind in kinds for title in kind.phases))


def phases_of_models(recipes: ModelRecipes) -> dict[Version, str]:
    """In which phase each model is made: the first of its kind's phases that comes after all that it names.

    Raises FoundryError where none does.
    """
    titles = phase_titles(recipes.kinds)
    placed: dict[Version, str] = {}
    for kind in recipes.kinds:
        for key in recipes.of(kind.asset):
            named = named_versions(recipes, kind.asset, key)
            before = max((titles.index(placed[version]) for version in named), default=-1)
            after = [title for title in kind.phases if titles.index(title) > before]
            if not after:
                raise FoundryError(
                    f"'{key}' of {kind.asset} is made in {', '.join(kind.phases)}, and what it starts from no earlier than "
                    f"in {titles[before]}; give its kind a later phase"
                )
            placed[kind.asset, key] = after[0]
    return placed


def run_demo(
    workspace: Workspace,
    profile: Profile,
    surroundings: Surroundings,
    started: Callable[[Phase], None],
    finished: Callable[[Outcome], None],
    *,
    train_autoencoder: bool = False,
    everything: bool = False,
    until: str | None = None,
    seconds_so_far: float = 0.0,
    much_to_do: bool = False,
) -> DemoResult:
    """Bring the whole graph up to date, or what lies before the phase titled ``until``.

    Stops after the first phase in which something failed. ``much_to_do``: see :class:`orchestration.launching.LaunchPool`.
    """
    result = DemoResult(seconds_by_stage={"start-up": seconds_so_far})
    mark, stages = time.monotonic(), stages_of(profile.recipes.kinds)
    if (
        much_to_do
    ):  # models are weighed before they are trained: what that needs is loaded beside the first runs
        threading.Thread(target=importlib.import_module, args=("training.backbones",), daemon=True).start()
    with launch_pool(workspace, profile.compute.concurrent_runs, much_to_do=much_to_do) as pool:
        for phase in phases(profile, surroundings, train_autoencoder, everything=everything):
            if phase.title == until:
                break
            _add(result.seconds_by_stage, {"start-up": time.monotonic() - mark})
            write_ledger(workspace.root, result.seconds_by_stage)
            started(phase)
            begin = time.monotonic()
            outcomes = pool.run(phase.launches, finished)
            _add(result.seconds_by_stage, shares(outcomes, time.monotonic() - begin, stages))
            result.launched += outcomes
            result.num_fresh += not phase.launches
            mark = time.monotonic()
            if result.error:
                break
    write_ledger(workspace.root, result.seconds_by_stage)
    return result


def stages_of(kinds: Iterable[ModelKind]) -> dict[str, str]:
    """The ledger's stage of every step."""
    made = {asset.name: kind.stage for kind in kinds for asset in (kind.main, *kind.companions)}
    return {**made, **STAGE_OF_STEP}


def shares(outcomes: Sequence[Outcome], wall_seconds: float, stages: Mapping[str, str]) -> dict[str, float]:
    """A phase's wall time, shared out among ledger stages in proportion to the step time spent on each."""
    spent: dict[str, float] = {}
    for outcome in outcomes:
        in_steps = 0.0
        for step, seconds in outcome.step_seconds.items():
            stage = stages.get(step, "start-up")
            spent[stage] = spent.get(stage, 0.0) + seconds
            in_steps += seconds
        spent["start-up"] = spent.get("start-up", 0.0) + max(outcome.seconds - in_steps, 0.0)
    total = sum(spent.values())
    return {stage: seconds / total * wall_seconds for stage, seconds in spent.items()} if total else {}


def write_ledger(workspace_root: Path, seconds_by_stage: Mapping[str, float]) -> None:
    """Keep measured seconds where the report finds them; a stage that was fresh this time keeps its last figure."""
    path = workspace_root / LEDGER_FILE
    known = json.loads(path.read_text()) if path.exists() else {}
    known.update({stage: round(seconds, 1) for stage, seconds in seconds_by_stage.items() if seconds >= 0.05})
    path.write_text(json.dumps(known, indent=1))


def _keep_trained(surroundings: Surroundings, stale: Stale) -> tuple[Launch, ...]:
    """A trained autoencoder stays until somebody asks for the shipped one; otherwise the usual rule."""
    manifest = surroundings.store.current("autoencoder")
    if (
        manifest is not None
        and manifest.provenance.config.get("train")
        and not verified(surroundings, manifest)
    ):
        return ()
    return stale("publish_autoencoder", ["autoencoder"], [None])


def _add(into: dict[str, float], seconds: Mapping[str, float]) -> None:
    for stage, value in seconds.items():
        into[stage] = into.get(stage, 0.0) + value


def all_versions(profile: Profile, surroundings: Surroundings) -> int:
    """How many versions the complete graph has."""
    names = [name for name in STEPS if surroundings.landing.is_composed or name != "demo_scenes"]
    keys = [(name, key) for name in names for key in partition_keys(profile, name)]
    asked = wanted_models(profile, everything=False)
    return sum(
        key is None or name not in asked or key in asked[name] or key in surroundings.store.partitions(name)
        for name, key in keys
    )
