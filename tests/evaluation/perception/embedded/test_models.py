from __future__ import annotations

import pickle
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest

from evaluation.perception.embedded.captioner import TEMPLATES
from evaluation.perception.role_models import Nomination, Workplace, make_model
from evaluation.perception.roles import ROLES
from tests.evaluation.perception.makers import embedded, no_bank, region, regions_column, worker_of
from training.errors import FoundryError

NAMES = ("captioner", "describer", "nouns", "phrases", "detector", "masks")


@pytest.mark.parametrize("name", NAMES)
def test_models_say_who_they_are_and_workers_travel(name: str) -> None:
    model = embedded(name)
    assert len(model.digest) == 64
    assert set(model.reads) <= {"image", "regions"}
    assert set(model.reads) <= set(ROLES[name].reads)
    factory, arguments = pickle.loads(pickle.dumps(model.worker()))
    assert callable(factory(**arguments))


def test_every_setting_counts_and_nothing_else() -> None:
    variants = [
        *(embedded(name) for name in NAMES),
        embedded("captioner", k=3),
        embedded("captioner", seed=1),
        embedded("detector", min_similarity=0.7),
        embedded("detector", min_grounding=0.2),
        embedded("masks", min_mask_iou=0.5),
    ]
    assert len({model.digest for model in variants}) == len(variants)
    assert embedded("captioner", art="fluent", min_mask_iou=0.2).digest == embedded("captioner").digest


def test_bad_settings_are_named() -> None:
    assert len(TEMPLATES) == 5
    with pytest.raises(FoundryError, match="'k' is 6; .*allowed: at least 1 and at most 5"):
        embedded("captioner", k=6)
    with pytest.raises(FoundryError, match="'min_similarity' is 2.0; .*allowed: at least 0 and at most 1"):
        embedded("detector", min_similarity=2.0)
    with pytest.raises(FoundryError, match="'min_mask_iou' is -1.0"):
        embedded("masks", min_mask_iou=-1.0)


def test_a_role_without_an_embedded_model_says_so(tmp_path: Path) -> None:
    nomination = Nomination("own", replace(ROLES["masks"], embedded=None), {"family": "embedded"})
    with pytest.raises(
        FoundryError, match=r"perception.masks is 'own', but no embedded model fills this role"
    ):
        make_model(nomination, Workplace(no_bank, tmp_path, threads=1))


def test_identities_need_no_model() -> None:
    code = (
        "import sys; from tests.evaluation.perception.makers import embedded;"
        f"[embedded(name).digest for name in {NAMES}];"
        "print(sorted({'torch', 'spacy', 'scipy', 'tokenizers', 'cv2', 'PIL'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("name", [name for name in NAMES if name != "detector"])
def test_workers_take_the_columns_of_their_role_and_answer_its_schema(name: str) -> None:
    """The detector's worker reads sentences with a language model: it is asked in its own tests."""
    columns = {
        "sample_id": ["a"], "text_id": ["a"], "entity_id": ["a"], "caption": ["a red cat"], "text": ["a red cat"],
        "phrase": ["a cat"], "box_xyxy_norm": [[0.1, 0.1, 0.4, 0.4]], "image": [b"not looked at"],
        "regions": regions_column([region("cat")]),
    }  # fmt: skip
    answers = worker_of(embedded(name))(pa.table({column: columns[column] for column in ROLES[name].reads}))
    assert answers.schema.equals(ROLES[name].answers, check_metadata=True)
    assert answers.num_rows > 0
    assert set(answers["model_digest"].to_pylist()) == {embedded(name).digest}
