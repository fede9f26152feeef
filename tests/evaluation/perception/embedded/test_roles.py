from __future__ import annotations

import pickle
import subprocess
import sys

import pytest

from evaluation.perception.embedded import roles as embedded_roles
from evaluation.perception.embedded.roles import EmbeddedRole
from training.errors import FoundryError

ROLES = {
    "captioner": embedded_roles.captioner(),
    "phrases": embedded_roles.phrases(),
    "nouns": embedded_roles.nouns(),
    "detector": embedded_roles.detector(),
    "describer": embedded_roles.describer(),
    "masks": embedded_roles.masks(),
}


@pytest.mark.parametrize("name", ROLES)
def test_roles_say_who_they_are_and_travel(name: str) -> None:
    role = ROLES[name]
    assert role.role == name
    assert len(role.digest) == 64
    assert set(role.reads) <= {"image", "regions"}
    sent: EmbeddedRole = pickle.loads(pickle.dumps(role))
    assert sent == role
    assert callable(sent.factory(**sent.kwargs))


def test_every_setting_counts_and_nothing_else() -> None:
    variants = [
        *ROLES.values(),
        embedded_roles.captioner(k=3),
        embedded_roles.captioner(seed=1),
        embedded_roles.detector(min_similarity=0.7),
        embedded_roles.detector(min_score=0.2),
        embedded_roles.masks(0.5),
    ]
    assert len({role.digest for role in variants}) == len(variants)
    assert embedded_roles.captioner() == ROLES["captioner"]


def test_bad_settings_are_named() -> None:
    with pytest.raises(FoundryError, match="captioner: k is 6, allowed are 1 to 5"):
        embedded_roles.captioner(k=6)
    with pytest.raises(FoundryError, match="detector: min_similarity is 2.0; allowed is 0 to 1"):
        embedded_roles.detector(min_similarity=2.0)
    with pytest.raises(FoundryError, match="masks: min_iou is -1.0"):
        embedded_roles.masks(-1.0)


def test_identities_need_no_model() -> None:
    code = (
        "import sys, evaluation.perception.embedded.roles as roles;"
        "roles.captioner(), roles.detector(), roles.phrases(), roles.describer(), roles.masks();"
        "print(sorted({'torch', 'spacy', 'scipy', 'tokenizers', 'cv2', 'PIL'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
