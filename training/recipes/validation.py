"""Turn pydantic's findings into one clear sentence: field, what was found, what is allowed, nearest key."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from training.errors import FoundryError

Model = TypeVar("Model", bound=BaseModel)

_BOUNDS = {"ge": "at least", "gt": "more than", "le": "at most", "lt": "less than"}


def validate(model: type[Model], values: Mapping[str, Any], where: str) -> Model:
    """Build ``model`` from ``values``. Raises FoundryError that names ``where``, the field and the remedy."""
    try:
        return model.model_validate(dict(values))
    except ValidationError as error:
        findings = [_describe(model, finding) for finding in error.errors()]
        raise FoundryError(f"{where}: " + "; ".join(findings)) from None


def nearest(key: str, known: Sequence[str]) -> str:
    """A hint such as ``did you mean 'batch_size'?``, or the list of known keys when none is near."""
    close = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
    return f"did you mean '{close[0]}'?" if close else "known keys: " + ", ".join(sorted(known))


def _describe(model: type[BaseModel], finding: Any) -> str:
    location = [str(part) for part in finding["loc"]]
    path = ".".join(location)
    if finding["type"] == "extra_forbidden":
        owner = _model_at(model, location[:-1])
        known = list(owner.model_fields) if owner else []
        return f"unknown key '{path}'; {nearest(location[-1], known)}"
    if finding["type"] == "missing":
        return f"key '{path}' is missing; add it"
    if not location:
        return str(finding["msg"]).removeprefix("Value error, ")
    message = str(finding["msg"]).removeprefix("Value error, ")
    allowed = _allowed(_field_at(model, location))
    return f"'{path}' is {finding['input']!r}; {message[0].lower()}{message[1:]}{allowed}"


def _allowed(field: FieldInfo | None) -> str:
    bounds = []
    for rule in field.metadata if field else ():
        bounds += [f"{word} {getattr(rule, name):g}" for name, word in _BOUNDS.items() if hasattr(rule, name)]
    return f" (allowed: {' and '.join(bounds)})" if bounds else ""


def _field_at(model: type[BaseModel], location: Sequence[str]) -> FieldInfo | None:
    owner = _model_at(model, location[:-1])
    return owner.model_fields.get(location[-1]) if owner else None


def _model_at(model: type[BaseModel], location: Sequence[str]) -> type[BaseModel] | None:
    """The model class that owns the fields at a location, through optional sections, mappings and lists."""
    owner: type[BaseModel] | None = model
    in_container = False
    for part in location:
        if in_container:  # a key of a mapping or a place in a list
            in_container = False
            continue
        field = owner.model_fields.get(part) if owner else None
        if field is None:
            return None
        kinds = [field.annotation, *get_args(field.annotation)]
        owner = next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)), None)
        in_container = get_origin(field.annotation) in (dict, list, tuple)
    return owner
