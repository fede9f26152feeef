"""The model as the platform knows it: light, known by its digest, built from what pickles."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest

from evaluation.perception.hub.models import HubPerceptionModel
from tests.evaluation.perception.hub.conftest import Checkpoint
from training.errors import FoundryError


def test_asking_for_a_model_loads_no_heavy_library(checkpoint: Checkpoint) -> None:
    program = (
        "import sys\n"
        "from evaluation.perception.hub.models import HubPerceptionModel\n"
        f"model = HubPerceptionModel('m', {{'family': 'sam', 'path': {str(checkpoint('sam'))!r}}}, 'masks')\n"
        "assert len(model.digest) == 64 and model.resources and model.worker()\n"
        "heavy = {'torch', 'transformers', 'diffusers', 'scipy', 'cv2'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


def test_identity_and_needs(checkpoint: Checkpoint, tmp_path: Path) -> None:
    settings = {
        "family": "llava",
        "path": str(checkpoint("llava")),
        "gpus": 0.5,
        "actors": 3,
        "batch_size": 4,
    }
    model = HubPerceptionModel("mine", settings, "captioner", tmp_path / "digests.json")
    assert model.name == "mine"
    assert model.reads == ("image",)
    assert model.resources == {"cpus": 1.0, "gpus": 0.5, "threads": 1, "actors": 3, "batch_size": 4}
    assert (tmp_path / "digests.json").exists() is False  # nothing is hashed before it is asked for
    assert model.digest == HubPerceptionModel("other", settings, "captioner").digest
    assert model.digest != HubPerceptionModel("mine", settings, "describer").digest
    assert (tmp_path / "digests.json").exists()
    assert HubPerceptionModel("l", {"family": "llm", "path": "x"}, "phrases").reads == ()


def test_a_worker_built_from_what_was_pickled_answers_under_the_models_name(
    checkpoint: Checkpoint, pictures: pa.Table
) -> None:
    settings = {
        "family": "llava",
        "path": str(checkpoint("llava")),
        "device": "cpu",
        "decoding": {"max_new_tokens": 3},
    }
    model = HubPerceptionModel("mine", settings, "captioner")
    factory, kwargs = pickle.loads(pickle.dumps(model.worker()))
    table = factory(**kwargs)(pictures)
    assert set(table["model"].to_pylist()) == {"mine"}
    assert set(table["model_digest"].to_pylist()) == {model.digest}


def test_settings_are_refused_under_the_models_name() -> None:
    with pytest.raises(
        FoundryError, match="perception model 'mine': unknown key 'batchsize'; did you mean 'batch_size'"
    ):
        HubPerceptionModel("mine", {"family": "llava", "path": "x", "batchsize": 3}, "captioner")
