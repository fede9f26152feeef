"""The rows of roles and of hub families belong together, and name what there is."""

from __future__ import annotations

import subprocess
import sys
from typing import get_args

import pytest
import transformers

from evaluation.perception.by_name import load_by_name
from evaluation.perception.hub.families import FAMILIES
from evaluation.perception.hub.settings import HubModel
from evaluation.perception.role_models import HUB_MAKER, MAKERS
from evaluation.perception.roles import ROLES, Role


def test_the_type_checker_knows_the_roles() -> None:
    assert get_args(Role) == tuple(ROLES)
    assert [name for name, row in ROLES.items() if name != row.name] == []


@pytest.mark.parametrize("name", ROLES)
def test_a_role_can_be_filled_and_answers_about_what_it_reads(name: str) -> None:
    role = ROLES[name]
    assert role.answers.names[0] == role.reads[0]
    assert role.default is not None or role.may_be_empty
    assert callable(load_by_name(role.embedded or ""))
    assert (role.hub is not None) == any(name in family.roles for family in FAMILIES.values())
    if role.hub is not None:
        assert set(role.hub.settings) <= set(HubModel.model_fields)


@pytest.mark.parametrize("name", FAMILIES)
def test_a_family_names_classes_and_workers_that_there_are(name: str) -> None:
    family = FAMILIES[name]
    for role, entry in family.roles.items():
        assert ROLES[role].hub is not None
        assert callable(load_by_name(entry.worker))
    classes = set(family.classes.values()) or {family.any_class}
    for kind in (*classes, family.processor):
        assert hasattr(transformers, kind)
    assert set(family.settings) | family.ignored_settings <= set(HubModel.model_fields)


def test_makers_are_there_and_registries_are_light() -> None:
    assert all(callable(load_by_name(place)) for place in (*MAKERS.values(), HUB_MAKER))
    code = (
        "import sys, evaluation.perception.roles, evaluation.perception.hub.families;"
        "import evaluation.perception.role_models;"
        "print(sorted({'torch', 'transformers', 'spacy', 'PIL', 'scipy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
