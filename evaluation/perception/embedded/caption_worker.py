"""The embedded captioner as a worker: from regions to rows of captions."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from evaluation.perception.embedded.captioner import CAPTIONER_NAME, CAPTIONER_VERSION, compose_captions
from evaluation.tables.perception import CAPTIONS
from training.digests import canonical_json
from training.packaged_models import packaged_folder

if TYPE_CHECKING:
    from tokenizers import Tokenizer


class CaptionWorker:
    """A batch worker from rows (sample_id, regions) to rows of :data:`evaluation.tables.perception.CAPTIONS`.

    Args:
        k: captions wanted of each image; fewer come where less can be said.
        seed: with the sample's id it draws the order in which objects are told.
        digest: identity of captioner and settings, as written into rows.
    """

    def __init__(self, k: int, seed: int, digest: str) -> None:
        self.k = k
        self.seed = seed
        self.digest = digest

    def __call__(self, batch: pa.Table) -> pa.Table:
        """Captions of every row's regions, best first, numbered from 1."""
        decoding = canonical_json({"k": self.k})
        rows: list[dict[str, Any]] = []
        for sample_id, regions in zip(
            batch["sample_id"].to_pylist(), batch["regions"].to_pylist(), strict=True
        ):
            rows += [
                {
                    "sample_id": sample_id,
                    "caption_index": index,
                    "caption": caption.text,
                    "score": caption.score,
                    "prompt": caption.template,
                    "decoding": decoding,
                    "seed": self.seed,
                    "num_tokens": self._count_tokens(caption.text),
                    "model": CAPTIONER_NAME,
                    "model_digest": self.digest,
                    "function_version": CAPTIONER_VERSION,
                }
                for index, caption in enumerate(
                    compose_captions(sample_id, regions, self.k, self.seed, self._count_tokens), start=1
                )
            ]
        return pa.Table.from_pylist(rows, schema=CAPTIONS)

    def _count_tokens(self, text: str) -> int:
        return len(self._tokenizer.encode(text, add_special_tokens=False).ids)

    @cached_property
    def _tokenizer(self) -> Tokenizer:
        return load_tokenizer()


def load_tokenizer() -> Tokenizer:
    """The packaged MiniLM's tokenizer without truncation and padding: what the demo's text encoder counts by."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(packaged_folder() / "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer
