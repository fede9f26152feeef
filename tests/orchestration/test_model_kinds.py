"""A kind of model is one row: whatever the graph does with kinds it does with a new one, from its row and its step alone."""

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import dagster as dg
import pyarrow as pa
import pytest

from assets.graph.definitions import gate_checks, materialized
from assets.graph.interfaces import Models, Store, Surroundings
from assets.graph.model_kinds import ModelAsset, ModelCheck, ModelKind, ModelRecipes, ProfileFiles
from assets.graph.steps import STEPS, Step, provenance_of
from assets.graph.versions import GateResult, Provenance
from assets.models.configs import DrawingConfig, resolved_config
from assets.models.kinds import MODEL_KINDS
from assets.models.parents import named_versions
from assets.models.partitions import model_partitions
from orchestration import profile as profiles
from orchestration.automation import holding_images
from orchestration.catalog import partition_keys
from orchestration.definitions import build, surroundings_of
from orchestration.demo import phase_titles, phases, phases_of_models, stages_of
from orchestration.freshness import freshness_of
from orchestration.profile import Profile
from orchestration.selection import wanted_models
from orchestration.workspace import PROFILES_FOLDER, Workspace
from training.errors import FoundryError
from training.recipes.files import load_named
from training.recipes.section import Section

NAME = "echo_backbone"


class EchoRecipe(Section):
    """What an echo repeats, and how loudly."""

    name: str
    parent: str
    volume: int = 1

    def settings(self) -> dict[str, object]:
        return self.model_dump(mode="json")


class EchoConfig(DrawingConfig):
    """Settings of ``echo_backbone``."""


def load_echoes(files: ProfileFiles) -> dict[str, EchoRecipe]:
    return files.read("echoes.yaml", lambda path: load_named(path, EchoRecipe)) or {}


def echo_backbone(
    context: dg.AssetExecutionContext,
    config: EchoConfig,
    store: dg.ResourceParam[Store],
    models: dg.ResourceParam[Models],
) -> dg.MaterializeResult:
    """A model that says what its parent is called, as loudly as its recipe asks for; made to see what a kind needs."""
    key = context.partition_key
    named = named_versions(models.recipes, NAME, key)
    recorded = resolved_config(NAME, key, config, models)
    provenance = provenance_of(store, STEPS[NAME], key, recorded, named=named)
    gates = {"is_heard": GateResult(recorded["volume"] > 0)}
    said = pa.table({"said": [named[0][1]] * recorded["volume"]})
    return materialized(store, store.write_table(NAME, said, provenance, key), checks=gate_checks(gates))


STEP = Step(
    NAME,
    "models",
    1,
    ("backbone", "pruned_backbone"),
    NAME,
    ("python",),
    parents=("backbone", "pruned_backbone"),
)
ECHO = ModelKind(
    ModelAsset(echo_backbone, EchoConfig, (ModelCheck("is_heard", "The echo is not silent."),)),
    source="echoes.yaml",
    load=load_echoes,
    job="echo_model",
    job_about="Let one model be repeated.",
    stage="students",
    phases=("training backbones and judge", "echoes"),
)
KINDS = (*MODEL_KINDS, ECHO)


@pytest.fixture(autouse=True)
def step(monkeypatch: pytest.MonkeyPatch) -> None:
    """The one line that a new kind adds to the step table."""
    monkeypatch.setitem(STEPS, NAME, STEP)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the smoke profile under the name ``mine``, with two echoes, one of which the demo makes."""
    monkeypatch.setattr(profiles, "PROFILES_FOLDER", tmp_path / "profiles")
    copy = tmp_path / "profiles" / "mine"
    shutil.copytree(PROFILES_FOLDER / "smoke", copy)
    (copy / "echoes.yaml").write_text(
        "defaults: {volume: 2}\n"
        "recipes: {loud: {parent: unet-tiny}, soft: {parent: transformer-tiny-ecodiff-20, volume: 1}}\n"
    )
    path = copy / "profile.yaml"
    path.write_text(path.read_text().replace("demo_models: [", "demo_models: [loud, "))
    return copy


def load(folder: Path) -> Profile:
    return profiles.load_profile.__wrapped__(folder.name, KINDS)


@pytest.fixture
def profile(folder: Path) -> Profile:
    return load(folder)


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path / "home", "mine", "scenes")


@pytest.fixture
def surroundings(workspace: Workspace, profile: Profile) -> Surroundings:
    return surroundings_of(workspace, profile)


def test_its_file_is_read_like_every_file_of_recipes(folder: Path, profile: Profile) -> None:
    assert profile.of(NAME) == {
        "loud": EchoRecipe(name="loud", parent="unet-tiny", volume=2),
        "soft": EchoRecipe(name="soft", parent="transformer-tiny-ecodiff-20"),
    }
    path = folder / "echoes.yaml"
    path.write_text("recipes: {loud: {parent: unet-tiny, volum: 3}}")
    with pytest.raises(FoundryError, match=r"echoes\.yaml, recipe 'loud'.*'volum'; did you mean 'volume'"):
        load(folder)
    path.unlink()
    with pytest.raises(FoundryError, match=r"'demo_models' names 'loud'; models made from others are"):
        load(folder)


def test_its_names_are_told_apart_from_those_of_other_kinds(folder: Path) -> None:
    (folder / "echoes.yaml").write_text(
        "recipes: {loud: {parent: unet-tiny}, unet-tiny-small: {parent: unet-tiny}}"
    )
    with pytest.raises(
        FoundryError, match=r"'unet-tiny-small' names a model in distilled\.yaml and in echoes\."
    ):
        load(folder)


def test_the_demo_makes_its_parents_too(folder: Path) -> None:
    path = folder / "profile.yaml"
    path.write_text(
        path.read_text()
        .replace("demo_models: [loud, ", "demo_models: [soft, ")
        .replace(", transformer-tiny-ecodiff-20, ", ", ")
    )
    with pytest.raises(FoundryError, match="names 'soft', but not its parent 'transformer-tiny-ecodiff-20'"):
        load(folder)


def test_its_partitions_are_its_recipes_and_read_their_parents(profile: Profile) -> None:
    own = model_partitions(profile.recipes)[NAME]
    assert list(own.keys.get_partition_keys()) == ["loud", "soft"] == partition_keys(profile, NAME)
    assert own.parents["backbone"] == dg.StaticPartitionMapping({"unet-tiny": {"loud"}})
    assert named_versions(profile.recipes, NAME, "soft") == [
        ("pruned_backbone", "transformer-tiny-ecodiff-20")
    ]


def test_an_unknown_parent_is_refused(profile: Profile) -> None:
    astray = {"loud": EchoRecipe(name="loud", parent="unet-tinny")}
    recipes = replace(profile.recipes, by_asset={**profile.recipes.by_asset, NAME: astray})
    with pytest.raises(
        FoundryError, match="profile mine: recipe 'loud' of echo_backbone has parent 'unet-tinny'"
    ):
        model_partitions(recipes)


def test_its_asset_job_and_checks_are_in_the_graph(workspace: Workspace, profile: Profile) -> None:
    graph = build(workspace, profile)
    assets = graph.resolve_asset_graph()
    node, key = assets.get(dg.AssetKey(NAME)), dg.AssetKey(NAME)
    assert {parent.to_user_string() for parent in node.parent_keys} == set(STEP.reads)
    checks = {check.name for check in assets.asset_check_keys if check.asset_key == key}
    assert checks == {"is_heard", "fresh", "no_removed_images"}
    job = graph.resolve_job_def(ECHO.job)
    assert job.description == ECHO.job_about
    assert job.asset_layer.selected_asset_keys == {key}


def test_takedowns_know_whether_it_holds_images() -> None:
    assert holding_images(KINDS) == [*holding_images(MODEL_KINDS), NAME]
    assert NAME not in holding_images((replace(ECHO, holds_images=False),))


def launches_of(profile: Profile, surroundings: Surroundings, everything: bool) -> Iterator[tuple[str, str]]:
    """Phase and label of every launch of the new kind."""
    for phase in phases(profile, surroundings, train_autoencoder=False, everything=everything):
        for launch in phase.launches:
            if launch.job == ECHO.job:
                yield phase.title, launch.label


def test_the_demo_makes_it_after_what_it_starts_from(profile: Profile, surroundings: Surroundings) -> None:
    assert phase_titles(KINDS) == [*phase_titles(MODEL_KINDS), "echoes"]
    assert list(launches_of(profile, surroundings, False)) == [("echoes", "echo_model loud")]
    all_of_them = list(launches_of(profile, surroundings, True))
    assert all_of_them == [("echoes", "echo_model loud"), ("echoes", "echo_model soft")]
    assert stages_of(KINDS)[NAME] == "students"


def test_a_kind_without_a_late_enough_phase_is_refused(profile: Profile) -> None:
    early = replace(ECHO, phases=("training backbones and judge",))
    recipes = replace(profile.recipes, kinds=(*MODEL_KINDS, early))
    with pytest.raises(FoundryError, match="'loud' of echo_backbone is made in training backbones and judge"):
        phases_of_models(recipes)


def test_it_is_made_found_fresh_and_goes_stale_with_its_parent(
    workspace: Workspace, profile: Profile, surroundings: Surroundings
) -> None:
    def write_parent(row: int) -> None:
        surroundings.store.write_table(
            "backbone", pa.table({"row": [row]}), Provenance("backbone", 1), "unet-tiny"
        )

    write_parent(1)
    job = build(workspace, profile).resolve_job_def(ECHO.job)
    assert job.execute_in_process(partition_key="loud").success
    assert surroundings.store.read_table(NAME, "loud")["said"].to_pylist() == ["unet-tiny"] * 2
    assert freshness_of(profile, surroundings, NAME, "loud").state == "fresh"
    assert list(launches_of(profile, surroundings, False)) == []
    write_parent(2)
    stale = freshness_of(profile, surroundings, NAME, "loud")
    assert (stale.state, stale.because) == ("stale", "input backbone@unet-tiny changed")


# -- the kinds there are -----------------------------------------------------------------------------------


def test_every_kind_has_its_step_and_the_steps_of_models_have_a_kind() -> None:
    kinds = {kind.asset for kind in MODEL_KINDS}
    partitioned = {step.partitioned_by for name, step in STEPS.items() if name != NAME}
    assert partitioned == kinds | {None, "groups", "grid"}
    for kind in MODEL_KINDS:
        assert STEPS[kind.asset].partitioned_by == kind.asset
        made_before = {other.asset for other in MODEL_KINDS[: MODEL_KINDS.index(kind)]}
        assert set(STEPS[kind.asset].parents) <= made_before, f"{kind.asset} comes before what it starts from"
    unique = [value for kind in MODEL_KINDS for value in (kind.asset, kind.job, kind.source)]
    assert len(unique) == len(set(unique))


def test_every_step_has_a_stage_of_the_ledger() -> None:
    from assets.reports.ledger import DEMO_LEDGER

    stages = stages_of(KINDS)
    assert set(STEPS) == set(stages)
    assert set(stages.values()) <= {stage.name for stage in DEMO_LEDGER}


def test_the_demo_launches_models_in_the_order_of_what_they_start_from(tmp_path: Path) -> None:
    profile = profiles.load_profile("smoke")
    surroundings = surroundings_of(Workspace(tmp_path, "smoke", "scenes"), profile)
    found = {
        phase.title: [launch.label for launch in phase.launches]
        for phase in phases(profile, surroundings, train_autoencoder=False, everything=True)
    }
    assert list(found.items())[3:] == [
        (
            "training backbones and judge",
            [
                "train_judge",
                *(
                    f"train_model {name}"
                    for name in (
                        *("sdxl-tiny", "flux-tiny", "sd3-tiny"),
                        *("unet-tiny", "transformer-tiny", "transformer-tiny-seed1"),
                    )
                ),
            ],
        ),
        ("layout models", ["train_layout_model sd3-tiny-siam"]),
        (
            "students, pruned models and the scaling grid",
            [
                "draw_conclusions",
                "distil_steps transformer-tiny-fast",
                "distil_features unet-tiny-small",
                "localize_text sd3-tiny",
                *(f"train_grid_point grid.tiny.all.{captions}.0" for captions in ("original", "mixed")),
            ],
        ),
        ("scores of units of other models", ["score_units transformer-tiny-ecodiff"]),
        ("pruning other models", ["prune_model transformer-tiny-ecodiff-20"]),
        ("fine-tuning and recovery", ["fine_tune transformer-tiny-recovered"]),
        (
            "adapters on layers that write",
            ["train_localized_lora sd3-tiny-located", "train_localized_lora sd3-tiny-all"],
        ),
        ("scores, laws and report", ["draw_conclusions"]),
    ]


def test_models_of_shipped_teachers_need_not_wait_for_backbones() -> None:
    """Scores of a teacher's units are learned while backbones train, its cuts made beside the students."""
    profile = profiles.load_profile("demo")
    placed = phases_of_models(profile.recipes)
    titles = phase_titles(MODEL_KINDS)
    assert placed["unit_scores", "transformer-ecodiff"] == placed["backbone", "unet-3"]
    assert placed["pruned_backbone", "transformer-20"] == placed["distilled_backbone", "koala-unet"]
    assert placed["unit_scores", "koala-unet-ecodiff"] == "scores of units of other models"
    for (asset, name), title in placed.items():  # a slow look at every model
        for version in named_versions(profile.recipes, asset, name):
            assert titles.index(placed[version]) < titles.index(title), (asset, name)


def test_units_are_scored_for_the_cuts_that_are_asked_for() -> None:
    profile = profiles.load_profile("demo")
    asked = wanted_models(profile, everything=False)
    assert set(asked["unit_scores"]) == {
        profile.of("pruned_backbone")[name].scores
        for name in profile.demo_models
        if name in asked["pruned_backbone"]
    }
    assert wanted_models(profile, everything=True) == {
        kind.asset: list(profile.of(kind.asset)) for kind in MODEL_KINDS
    }


def test_a_kind_that_there_is_not_is_named_with_those_there_are() -> None:
    with pytest.raises(
        FoundryError, match="'echo' is no kind of model; the kinds are: teacher_backbone, backbone,"
    ):
        ModelRecipes("mine", MODEL_KINDS).kind("echo")
