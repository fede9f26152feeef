"""The demo: the whole graph through Dagster, only what is not fresh, with times by stage of the ledger."""

from __future__ import annotations

import importlib
import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from assets.graph.interfaces import Surroundings
from assets.graph.steps import STEPS
from assets.reports.ledger import LEDGER_FILE
from orchestration.catalog import partition_keys
from orchestration.freshness import needs_run, verified
from orchestration.grid import GRID_STEPS, grid_order
from orchestration.jobs import CONCLUDING
from orchestration.launching import Launch, Outcome, launch_pool
from orchestration.profile import Profile
from orchestration.selection import derived_models
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
    "autoencoder": "embeddings",
    "backbone": "backbones",
    "teacher_backbone": "students",
    "step_distilled_backbone": "students",
    "distilled_backbone": "students",
    "distillation_study": "evaluation",
    "unit_scores": "students",
    "pruned_backbone": "students",
    "fine_tuned_backbone": "students",
    "pruning_comparison": "evaluation",
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


STUDENTS = "students, pruned models and the scaling grid"
"""Title of the first phase whose models are made from others."""


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
    and the largest models come first (to weigh them takes seconds).
    """
    in_order = needs is None
    needs = needs or partial(needs_run, profile, surroundings)

    def stale(
        job: str, names: Sequence[str], keys: Sequence[str | None], assets: Sequence[str] = ()
    ) -> tuple[Launch, ...]:
        wanted = [key for key in keys if any(needs(name, key) for name in names)]
        return tuple(Launch(job, key, assets=tuple(assets), makes=tuple(names)) for key in wanted)

    scenes = stale("compose_scenes", ["demo_scenes"], [None]) if surroundings.landing.is_composed else ()
    if train_autoencoder:
        yield Phase("composing scenes", scenes)
        config = {"autoencoder": {"train": True}}
        yield Phase("autoencoder", (Launch("publish_autoencoder", config=config, makes=("autoencoder",)),))
    else:
        yield Phase("scenes and autoencoder", _keep_trained(surroundings, stale) + scenes)
    data = [step.name for step in STEPS.values() if step.partitioned_by == "groups"]
    yield Phase("captions, entities and latents", stale("refresh_group", data, profile.group_keys))
    yield Phase(
        "the dataset",
        stale(
            "assemble_dataset",
            ["caption_statistics", "layout_benchmark", "training_shards"],
            [None],
        ),
    )
    yield Phase("shipped teachers", stale("publish_teacher", ["teacher_backbone"], list(profile.teachers)))
    models = [step.name for step in STEPS.values() if step.partitioned_by == "recipes"]
    backbones = list(profile.backbones)
    if in_order:
        backbones.sort(key=lambda key: _size(profile, key), reverse=True)
    judge = stale("train_judge", ["judge_clip"], [None])
    trainings = stale("train_model", models, backbones)
    derived = derived_models(profile, everything=everything)
    scorings, cuts = derived["unit_scores"], derived["pruned_backbone"]
    of_teachers = [key for key in scorings if profile.unit_scores[key].parent in profile.teachers]
    scores_at_once = stale("score_units", ["unit_scores"], of_teachers)
    yield Phase("training backbones and judge", judge + scores_at_once + trainings)
    students = stale("distil_steps", ["step_distilled_backbone"], derived["step_distilled_backbone"])
    smaller = derived["distilled_backbone"]
    of_students = [key for key in smaller if profile.distilled[key].parent in profile.step_distilled]
    at_once = stale(
        "distil_features", ["distilled_backbone"], [key for key in smaller if key not in of_students]
    )
    grid = grid_order(profile) if in_order else profile.grid_keys
    points = stale("train_grid_point", GRID_STEPS, grid)
    cuts_at_once = [key for key in cuts if profile.pruned[key].scores in of_teachers]
    pruned = stale("prune_model", ["pruned_backbone"], cuts_at_once)
    early = stale("draw_conclusions", early_conclusions(), [None], early_conclusions())
    yield Phase(STUDENTS, early + students + at_once + pruned + points)
    if of_students:
        yield Phase(
            "smaller students of few-step ones", stale("distil_features", ["distilled_backbone"], of_students)
        )
    later = [key for key in scorings if key not in of_teachers]
    if later:
        yield Phase("scores of units of other models", stale("score_units", ["unit_scores"], later))
        cuts_later = [key for key in cuts if key not in cuts_at_once]
        yield Phase("pruning other models", stale("prune_model", ["pruned_backbone"], cuts_later))
    if derived["fine_tuned_backbone"]:
        tuned = stale("fine_tune", ["fine_tuned_backbone"], derived["fine_tuned_backbone"])
        yield Phase("fine-tuning and recovery", tuned)
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
    mark = time.monotonic()
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
            _add(result.seconds_by_stage, shares(outcomes, time.monotonic() - begin))
            result.launched += outcomes
            result.num_fresh += not phase.launches
            mark = time.monotonic()
            if result.error:
                break
    write_ledger(workspace.root, result.seconds_by_stage)
    return result


def shares(outcomes: Sequence[Outcome], wall_seconds: float) -> dict[str, float]:
    """A phase's wall time, shared out among ledger stages in proportion to the step time spent on each."""
    spent: dict[str, float] = {}
    for outcome in outcomes:
        in_steps = 0.0
        for step, seconds in outcome.step_seconds.items():
            stage = STAGE_OF_STEP.get(step, "start-up")
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


def _keep_trained(surroundings: Surroundings, stale: Callable[..., tuple[Launch, ...]]) -> tuple[Launch, ...]:
    """A trained autoencoder stays until somebody asks for the shipped one; otherwise the usual rule."""
    manifest = surroundings.store.current("autoencoder")
    if (
        manifest is not None
        and manifest.provenance.config.get("train")
        and not verified(surroundings, manifest)
    ):
        return ()
    return stale("publish_autoencoder", ["autoencoder"], [None])


def _size(profile: Profile, key: str) -> int:
    from training.backbones import count_parameters

    backbone = profile.backbones[key].backbone
    if backbone is None:
        raise FoundryError(f"Recipe '{key}' names no backbone. Add `backbone:` to it in recipes.yaml.")
    return count_parameters(backbone)


def _add(into: dict[str, float], seconds: Mapping[str, float]) -> None:
    for stage, value in seconds.items():
        into[stage] = into.get(stage, 0.0) + value


def all_versions(profile: Profile, surroundings: Surroundings) -> int:
    """How many versions the complete graph has."""
    names = [name for name in STEPS if surroundings.landing.is_composed or name != "demo_scenes"]
    keys = [(name, key) for name in names for key in partition_keys(profile, name)]
    asked = derived_models(profile, everything=False)
    return sum(
        key is None or name not in asked or key in asked[name] or key in surroundings.store.partitions(name)
        for name, key in keys
    )
