"""A model in a role as the platform asks for it, and which module makes it of a profile's settings. Light: no torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa

from evaluation.perception.by_name import load_by_name
from evaluation.perception.roles import PerceptionRole

BatchFunction = Callable[[pa.Table], pa.Table]
Factory = Callable[..., BatchFunction]
BankInputs = tuple[Mapping[str, bytes], tuple[str, ...]]


@dataclass(frozen=True)
class RoleModel:
    """One model in one role. Cheap to ask for its identity; loads nothing before a worker is built.

    Args:
        name: as written into rows.
        reads: of ``image`` and ``regions`` those that the worker needs in its rows.
        identify: gives sha256 over weights and every setting that changes the answer; asked once, when it is needed.
        worker: gives a module-level factory and its keyword arguments, which pickle; the factory loads the model.
        resources: what one worker needs: some of cpus, gpus, threads, actors, batch_size, inline_rows and keep_loaded.
    """

    name: str
    reads: tuple[str, ...]
    identify: Callable[[], str]
    worker: Callable[[], tuple[Factory, Mapping[str, Any]]]
    resources: Mapping[str, Any]

    @cached_property
    def digest(self) -> str:
        """Who the model is: part of the key of every row that it makes."""
        return self.identify()


@dataclass(frozen=True)
class Workplace:
    """What perception finds where it works.

    Args:
        bank_inputs: of an art set's name: pictures of the training concepts by name, and the words that may be answered
            where the bank knows nothing.
        cache: folder for what is made once and may be made again.
        threads: torch threads of a worker.
        workers_see_cache: whether workers can read the cache; else what they need of it travels along.
    """

    bank_inputs: Callable[[str], BankInputs]
    cache: Path
    threads: int
    workers_see_cache: bool = True


@dataclass(frozen=True)
class Nomination:
    """That a profile names a model, with these settings, for a role."""

    name: str
    role: PerceptionRole
    settings: Mapping[str, Any]

    @property
    def family(self) -> Any:
        """What kind of model it is; as written, so perhaps nothing of the sort."""
        return self.settings.get("family")

    @property
    def own_settings(self) -> dict[str, Any]:
        """The settings beside the family."""
        return {name: value for name, value in self.settings.items() if name != "family"}

    @property
    def said(self) -> str:
        """Beginning of an error about the nomination."""
        return f"profile.yaml: perception.{self.role.name} is '{self.name}'"

    @property
    def place(self) -> str:
        """Beginning of an error about the settings."""
        return f"profile.yaml: perception.models.{self.name}"


MAKERS: dict[str, str] = {
    "embedded": "evaluation.perception.embedded.models:embedded_model",
    "nanodet": "evaluation.perception.networks.nanodet_model:nanodet_model",
    **dict.fromkeys(("rapidocr", "tesseract", "easyocr"), "evaluation.perception.ocr.model:ocr_model"),
    **dict.fromkeys(
        ("listed_words", "text_classifier"), "evaluation.perception.toxicity.model:toxicity_model"
    ),
}
"""By family: what makes a model of a nomination and a workplace. All other families are the hub's."""
HUB_MAKER = "evaluation.perception.hub.models:hub_model"


def make_model(nomination: Nomination, workplace: Workplace) -> RoleModel:
    """The model that a profile names for a role. Raises FoundryError for settings or a role that are not its own."""
    family = nomination.family
    maker = MAKERS.get(family, HUB_MAKER) if isinstance(family, str) else HUB_MAKER
    model: RoleModel = load_by_name(maker)(nomination, workplace)
    return model
