"""A new role of perception, with an embedded model and a family of the hub, is a row each: nothing else names it."""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from assets.graph.interfaces import PerceptionModel
from evaluation.perception.embedded.settings import EmbeddedSettings
from evaluation.perception.hub.families import FAMILIES, Family, FamilyRole
from evaluation.perception.hub.images import open_image
from evaluation.perception.hub.loading import Loaded
from evaluation.perception.hub.rows import Maker
from evaluation.perception.hub.settings import HubModel
from evaluation.perception.role_models import RoleModel, Workplace
from evaluation.perception.roles import ROLES, HubPart, PerceptionRole
from evaluation.tables.perception import MADE_BY, SAMPLE_ID
from orchestration.perception_profile import profile_of
from orchestration.profile import load_profile
from orchestration.resources.perception import ProfilePerception
from tests.assets.corpus.makers import picture
from tests.evaluation.perception.hub import finders
from training.errors import FoundryError
from training.recipes.validation import validate

SIZES = pa.schema([SAMPLE_ID, ("width", pa.int32()), *MADE_BY])
HERE = "tests.orchestration.test_new_role"


def embedded_sizes(settings: EmbeddedSettings, workplace: Workplace) -> RoleModel:
    """The embedded model: it writes down the number of bytes."""
    arguments = {"digest": f"k{settings.k}"}
    return RoleModel("bytes", ("image",), lambda: arguments["digest"], lambda: (ByteCounter, arguments), {})


@dataclass(frozen=True)
class ByteCounter:
    """Its worker."""

    digest: str

    def __call__(self, rows: pa.Table) -> pa.Table:
        made = {"model": "bytes", "model_digest": self.digest, "function_version": 1}
        return pa.Table.from_pylist(
            [{"sample_id": row["sample_id"], "width": len(row["image"]), **made} for row in rows.to_pylist()],
            schema=SIZES,
        )


@dataclass(frozen=True)
class HubSizes:
    """The hub family's worker: the width that its model sees."""

    loaded: Loaded
    settings: HubModel
    maker: Maker

    def __call__(self, rows: pa.Table) -> pa.Table:
        widths = {
            row["sample_id"]: open_image(row["image"], row["sample_id"], self.settings.max_image_side).width
            for row in rows.to_pylist()
        }
        made = self.maker.columns()
        return pa.Table.from_pylist(
            [{"sample_id": name, "width": width, **made} for name, width in widths.items()], schema=SIZES
        )


@pytest.fixture
def _sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    role = PerceptionRole(
        "sizes",
        "measures images",
        reads=("sample_id", "image"),
        answers=SIZES,
        embedded=f"{HERE}:embedded_sizes",
        hub=HubPart(),
        default=None,
        may_be_empty=True,
    )
    family = Family({"sizes": FamilyRole(f"{HERE}:HubSizes")}, {"sam": "SamModel"}, reads_text=False)
    monkeypatch.setitem(ROLES, "sizes", role)
    monkeypatch.setitem(FAMILIES, "sizer", family)


def _perception(folder: Path, **section: Any) -> ProfilePerception:
    profile = validate(profile_of(ROLES), section, "profile.yaml: perception")
    return ProfilePerception(profile, load_profile("smoke").world_path, folder, 1)


def _answers(model: PerceptionModel | None) -> list[dict[str, Any]]:
    assert isinstance(model, PerceptionModel)
    worker = pickle.loads(pickle.dumps(model.worker()))
    rows = pa.table({"sample_id": ["a"], "image": [picture(0, 80, 40)]})
    answers = worker.factory(**worker.kwargs)(rows)
    assert answers.schema.equals(SIZES)
    assert answers["model_digest"].to_pylist() == [model.digest]
    found: list[dict[str, Any]] = answers.to_pylist()
    return found


@pytest.mark.usefixtures("_sizes")
def test_the_embedded_model_fills_the_role(tmp_path: Path) -> None:
    models = {"embedded": {"family": "embedded", "k": 3}}
    perception = _perception(tmp_path, models=models, sizes="embedded")
    assert _answers(perception.model("sizes"))[0]["width"] == len(picture(0, 80, 40))
    assert _perception(tmp_path).model("sizes") is None, (
        "a profile that knows nothing of the role stays valid"
    )


@pytest.mark.usefixtures("_sizes")
def test_a_model_by_path_fills_the_role(tmp_path: Path) -> None:
    path = str(finders.sam(tmp_path / "sam"))
    models = {
        "embedded": {"family": "embedded"},
        "mine": {"family": "sizer", "path": path, "max_image_side": 32},
    }
    answer = _answers(_perception(tmp_path, models=models, sizes="mine").model("sizes"))[0]
    assert (answer["width"], answer["model"]) == (32, "mine")


@pytest.mark.usefixtures("_sizes")
@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"sizess": "embedded"}, "unknown key 'sizess'; did you mean 'sizes'"),
        ({"sizes": "mine", "models": {"mine": {"family": "nanodet"}}}, "NanoDet is a detector only"),
        (
            {"masks": "mine", "models": {"mine": {"family": "sizer", "path": "x"}}},
            r"family 'sizer' cannot take it \(its roles: sizes\). Families that can: sam, sam2",
        ),
        (
            {"nouns": "mine", "models": {"mine": {"family": "sizer", "path": "x"}}},
            "Models by path fill: captioner, .*masks.*, sizes",
        ),
        ({"sizes": "mine", "models": {"mine": {"family": "sizerr", "path": "x"}}}, "or 'sizer'"),
    ],
)
def test_refusals_know_the_new_rows(tmp_path: Path, section: dict[str, Any], message: str) -> None:
    section = section | {"models": {"embedded": {"family": "embedded"}, **section.get("models", {})}}
    with pytest.raises(FoundryError, match=message):
        _perception(tmp_path, **section)
