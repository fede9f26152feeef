"""Stand-in models for tests of derivations: they answer by rule, count their calls in a file, and fail when told to."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa

from assets.graph.interfaces import BatchWorker, Model, Resources
from evaluation.tables.perception import CAPTIONS


class CountingCaptioner:
    """Answers ``rows`` captions a sample; ``none`` get no row, ``broken`` raise. Every call is a line in ``calls``."""

    def __init__(
        self, calls: str, none: tuple[str, ...] = (), broken: tuple[str, ...] = (), rows: int = 2
    ) -> None:
        self._calls = Path(calls)
        self._none, self._broken, self._rows = set(none), set(broken), rows

    def __call__(self, batch: pa.Table) -> pa.Table:
        """Captions in the form of :data:`evaluation.tables.perception.CAPTIONS`."""
        names = batch["sample_id"].to_pylist()
        with self._calls.open("a") as file:
            file.write(" ".join(names) + "\n")
        wrong = self._broken.intersection(names)
        if wrong:
            raise ValueError(f"cannot look at {sorted(wrong)[0]}")
        rows = [
            {
                "sample_id": name,
                "caption_index": index + 1,
                "caption": f"caption {index} of {name}",
                "score": 0.9,
                "prompt": "",
                "decoding": "{}",
                "seed": 0,
                "num_tokens": 4,
                "model": "",
                "model_digest": "",
                "function_version": 0,
            }
            for name in reversed(names)  # answers may come in any order
            if name not in self._none
            for index in range(self._rows)
        ]
        return pa.Table.from_pylist(rows, schema=CAPTIONS)


def counting_model(calls: Path, digest: str = "model-1", batch_size: int = 4, **options: object) -> Model:
    """A :class:`CountingCaptioner` as a model."""
    arguments = {"calls": str(calls), **options}
    return Model(
        "counting",
        digest,
        lambda: BatchWorker(CountingCaptioner, arguments),
        resources=Resources(batch_size=batch_size),
    )


def asked(calls: Path) -> list[str]:
    """Every sample that the model was asked for, in order, repeats included."""
    return calls.read_text().split() if calls.exists() else []
