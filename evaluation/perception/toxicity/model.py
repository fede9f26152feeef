"""What fills the role ``toxicity``: settings, identity, and how a worker of each family is built. Light: no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field

from evaluation.perception.embedded.settings import EmbeddedSettings
from evaluation.perception.role_models import BatchFunction, Nomination, RoleModel, Workplace
from evaluation.perception.toxicity.listed import PACKAGED, WordList, read_word_list, toxicity_of
from evaluation.tables.perception import TOXICITY
from training.digests import canonical_json, folder_digest, sha256_bytes
from training.errors import FoundryError
from training.recipes.validation import validate

JUDGING_VERSION = 1  # raise when the same model and settings would judge otherwise


class ListedSettings(BaseModel):
    """What a profile may set of a word list."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    words: str | None = Field(
        None, description="JSON file with source, license and words; None for the packaged list"
    )


class ClassifierSettings(BaseModel):
    """What a profile may set of a classifier of transformers, such as one of those trained on Jigsaw's comments."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    path: str = Field(description="folder of AutoModelForSequenceClassification")
    label: str = Field("toxic", description="class whose probability counts")


class Judging(Protocol):
    """From texts to how toxic each is, in [0, 1]."""

    def __call__(self, texts: Sequence[str]) -> Sequence[float]: ...


FAMILIES: Mapping[str, type[BaseModel]] = {
    "listed_words": ListedSettings,
    "text_classifier": ClassifierSettings,
}


def embedded_toxicity(settings: EmbeddedSettings, workplace: Workplace) -> RoleModel:
    """The packaged word list."""
    return _model("listed_words", ListedSettings().model_dump(), workplace)


def toxicity_model(nomination: Nomination, workplace: Workplace) -> RoleModel:
    """A list or a classifier. Raises FoundryError for settings that are none of its own, for another role, and missing files."""
    family = str(nomination.family)
    settings = validate(FAMILIES[family], nomination.own_settings, nomination.place)
    if nomination.role.name != "toxicity":
        raise FoundryError(f"{nomination.said}, but {family} fills the role 'toxicity' only.")
    return _model(family, settings.model_dump(), workplace)


def _model(family: str, settings: Mapping[str, Any], workplace: Workplace) -> RoleModel:
    name, digest = _identity(family, settings)
    told = {"family": family, "settings": dict(settings), "name": name, "digest": digest}
    return RoleModel(name, (), lambda: digest, lambda: (build_worker, told), {"threads": workplace.threads})


def _identity(family: str, settings: Mapping[str, Any]) -> tuple[str, str]:
    if family == "listed_words":
        found = list_of(settings)
        return f"a list of {len(found.words)} words", found.digest
    folder = Path(settings["path"])
    if not (folder / "config.json").is_file():
        raise FoundryError(
            f"{folder}: has no config.json; give the folder of a text classifier of transformers"
        )
    about = {"classifier": folder_digest(folder), "label": settings["label"], "version": JUDGING_VERSION}
    return f"{folder.name} ({settings['label']})", sha256_bytes(canonical_json(about).encode())


def list_of(settings: Mapping[str, Any]) -> WordList:
    """The list that settings name."""
    return read_word_list(Path(settings["words"]) if settings.get("words") else PACKAGED)


def build_worker(family: str, settings: Mapping[str, Any], name: str, digest: str) -> BatchFunction:
    """The model, inside a worker."""
    judging: Judging = _listed(settings) if family == "listed_words" else _classifier(settings)

    def judge(batch: pa.Table) -> pa.Table:
        scores = judging(batch["text"].to_pylist())
        rows = [
            {
                "text_id": text_id,
                "toxicity": score,
                "model": name,
                "model_digest": digest,
                "function_version": JUDGING_VERSION,
            }
            for text_id, score in zip(batch["text_id"].to_pylist(), scores, strict=True)
        ]
        return pa.Table.from_pylist(rows, schema=TOXICITY)

    return judge


def _listed(settings: Mapping[str, Any]) -> Judging:
    words = list_of(settings).words
    return lambda texts: [toxicity_of(text, words) for text in texts]


def _classifier(settings: Mapping[str, Any]) -> Judging:
    from evaluation.perception.toxicity.classifier import Classifier

    return Classifier(Path(settings["path"]), settings["label"])
