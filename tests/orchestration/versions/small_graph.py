"""A whole graph in a handful of rows, written through the real store: what versioning has to find its way in."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from assets.corpus.identity import image_id_of, sample_id_of
from assets.encodings.text import text_id
from assets.graph.steps import input_label
from assets.graph.versions import Manifest, Provenance
from orchestration.resources.store import ManifestStore


@dataclass(frozen=True)
class Picture:
    """One landed picture; its bytes are its name."""

    name: str
    split: str = "train"
    group: str = "g0"

    @property
    def image_id(self) -> str:
        return image_id_of(self.name.encode())

    @property
    def sample_id(self) -> str:
        return sample_id_of(self.image_id, "web", self.name)


PICTURES = (
    Picture("apple"),
    Picture("pear"),
    Picture("plum", group="g1"),
    Picture("fig", "held_out_images", "g1"),
    Picture("lime", "judge", "g1"),
)


class SmallGraph:
    """Writes the graph step by step; each call makes new versions from whatever is current."""

    def __init__(self, store: ManifestStore) -> None:
        self.store = store

    def build(self, pictures: Sequence[Picture] = PICTURES, word: str = "red", recipe: str = "xs") -> None:
        """Everything from landed images to models."""
        for group in sorted({picture.group for picture in PICTURES}):
            self.tables([picture for picture in pictures if picture.group == group], group, word)
        self.shards([picture for picture in pictures if picture.split != "judge"], word)
        self.model("backbone", recipe, ["training_shards"], {"dataset": {"splits": ["train"]}, "seed": 1})
        self.model("annotation_pages", None, ["landed_images@g0", "recaptions@g0"], {})
        inputs = [input_label("curated_images", group) for group in ("g0", "g1")]
        self.model("judge_clip", None, inputs, {"dataset": {"splits": ["judge"]}})

    def tables(self, pictures: Sequence[Picture], group: str, word: str) -> None:
        """Landed images to latents of one shard group."""
        seen = [picture for picture in pictures if picture.split != "judge"]
        ids = [picture.sample_id for picture in seen]
        captions = [caption(picture, word) for picture in seen]
        self.table("landed_images", group, [landed_row(picture) for picture in pictures], {"shard:a": "s"})
        curated = [
            {"sample_id": p.sample_id, "image_id": p.image_id, "split": p.split, "keep": True}
            for p in pictures
        ]
        self.table("curated_images", group, curated)
        made = {"model": "eyes", "model_digest": "e" * 64, "function_version": 1}
        self.table("regions", group, [{"sample_id": key, "region_index": 0, **made} for key in ids])
        rows = [
            {
                "sample_id": key,
                "caption_index": 1,
                "caption": text,
                "prompt": "say it",
                "decoding": "{}",
                "seed": 7,
                "score": 0.5,
                "model": "writer",
                "model_digest": "w" * 64,
                "function_version": 2,
            }
            for key, text in zip(ids, captions, strict=True)
        ]
        self.table("recaptions", group, rows, reads=("landed_images", "regions"), config={"word": word})
        units = [{"key": key, "num_rows": 1} for key in ids]
        self.table("recaptions_units", group, units)
        texts = [picture.name for picture in seen] + captions
        embedded = [
            {"text_id": text_id(text), "text": text, "model": "encoder", "model_digest": "t" * 64}
            for text in texts
        ]
        self.table("text_embeddings", group, embedded, reads=("recaptions", "landed_images"))
        latents = [
            {"sample_id": key, "model": "vae", "model_digest": "a" * 64, "function_version": 1} for key in ids
        ]
        self.table("image_latents", group, latents, reads=("landed_images",))

    def table(
        self,
        name: str,
        partition: str | None,
        rows: Sequence[Mapping[str, object]],
        outside: Mapping[str, str] | None = None,
        reads: Sequence[str] = ("landed_images",),
        config: Mapping[str, object] | None = None,
    ) -> Manifest:
        """One table version made from the newest versions of ``reads``."""
        inputs = dict(outside or {})
        if name != "landed_images":
            inputs.update(
                {
                    input_label(other, partition): self.store.require(other, partition).digest
                    for other in reads
                }
            )
        made = Provenance(name, 1, config or {}, inputs)
        form = rows[0].keys() if rows else ("sample_id", "image_id")
        columns = {column: [row[column] for row in rows] for column in form}
        return self.store.write_table(name, pa.table(columns), made, partition)

    def shards(self, pictures: Sequence[Picture], word: str) -> Manifest:
        """A data set folder with a list of samples, as training shards have it."""
        names = (
            "landed_images",
            "curated_images",
            "regions",
            "recaptions",
            "text_embeddings",
            "image_latents",
        )
        inputs = {
            input_label(name, key): self.store.require(name, key).digest
            for name in names
            for key in self.store.partitions(name)
        }
        samples = pa.table(
            {
                "sample_id": [picture.sample_id for picture in pictures],
                "split": [picture.split for picture in pictures],
                "captions": [[picture.name, caption(picture, word)] for picture in pictures],
            }
        )
        with tempfile.TemporaryDirectory() as scratch:
            pq.write_table(samples, Path(scratch) / "samples.parquet")
            (Path(scratch) / "latents.npy").write_bytes(word.encode())
            return self.store.publish_folder(
                "training_shards", Path(scratch), Provenance("training_shards", 1, {}, inputs)
            )

    def model(
        self, name: str, partition: str | None, labels: Sequence[str], config: Mapping[str, object]
    ) -> Manifest:
        """A folder made from the newest versions that ``labels`` name; a model where its settings name a data set."""
        inputs = {}
        for label in labels:
            source, _, key = label.partition("@")
            inputs[label] = self.store.require(source, key or None).digest
        with tempfile.TemporaryDirectory() as scratch:
            (Path(scratch) / "weights.safetensors").write_text(
                f"{name} {partition} {sorted(inputs.items())} {config}"
            )
            return self.store.publish_folder(
                name, Path(scratch), Provenance(name, 1, config, inputs), partition
            )


def caption(picture: Picture, word: str) -> str:
    """What the captioner says of a picture."""
    return f"a {word} {picture.name}"


def landed_row(picture: Picture) -> dict[str, object]:
    """The picture as it landed."""
    return {
        "sample_id": picture.sample_id,
        "image_id": picture.image_id,
        "source": "web",
        "shard": "a.parquet",
        "key": picture.name,
        "split": picture.split,
        "image": picture.name.encode(),
        "alt_text": picture.name,
        "license": "CC0-1.0",
        "attribution": "",
    }
