"""Every published model as something that can be scored: what is stored of it, and what has to be drawn."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from assets.encodings.assembly import HELD_OUT
from assets.evaluation.evaluation_table import held_out_errors
from assets.evaluation.held_out import ScoringSettings, errors_among, held_out_samples, measure_errors
from assets.evaluation.model_scores import ScoredModel
from assets.graph.interfaces import Models, Perception, Store
from assets.graph.step_table import LAYOUT_MODELS, SCORED_MODELS
from assets.graph.versions import Manifest, Provenance
from assets.layout.scores import truth_of_scenes
from assets.layout.seen import DrawnLayouts, any_wanted, told_boxes
from assets.models.drawing import (
    PICTURES,
    DrawingPlace,
    as_meant,
    draw_model,
    held_out_prompts,
    keep_pictures,
    pictures_of,
)
from assets.models.judging import decoded, held_out_pairs
from assets.models.looking import look_at
from assets.models.parents import named_versions
from assets.writing.scored import swept_models
from evaluation.metrics.metric import Evidence, HeldOutErrors, Pictures, Settings
from training.digests import canonical_json, sha256_bytes

if TYPE_CHECKING:
    from evaluation.metrics.objects_shown import LookedFor
    from evaluation.metrics.scene_truth import Truth

KNOWN_OBJECTS = "held_out_images"
"""The held-out split whose concepts are among the training concepts, which perception's bank has."""
OTHER_STEPS = ("step_distilled_backbone",)
"""Kinds that draw in other steps than what they are made from, to other pictures."""
_BY_SAMPLE = [("split", "ascending"), ("sample_id", "ascending")]


@dataclass
class Published:
    """The store's models and what they are all scored on. Nothing is read before a metric asks for it."""

    store: Store
    models: Models
    place: DrawingPlace
    wanted: ScoringSettings
    provenance: Provenance
    perception: Perception
    left_out: dict[str, str] = field(default_factory=dict)
    _drawn: dict[tuple[str, str], Pictures] = field(default_factory=dict)

    def scored(self) -> Iterator[ScoredModel]:
        """Every model that passed its gate; the others are named in ``left_out`` with the reason."""
        for kind in SCORED_MODELS:
            for key in self.store.partitions(kind):
                manifest = self.store.require(kind, key)
                if manifest.gate is None or not manifest.gate.passed:
                    self.left_out[f"{kind} {key}"] = "did not pass its checks"
                    continue
                yield ScoredModel(
                    kind, key, manifest.digest, self._settings(kind, key), partial(self._evidence, manifest)
                )
        yield from self._layout_models()
        yield from swept_models(self.store)
        yield from self._runs()

    def _layout_models(self) -> Iterator[ScoredModel]:
        """Models that are told where things stand, by the pictures of held-out layouts that are stored of them."""
        looking, truth = self.perception.model("closed_set"), truth_of_scenes(self.store, self.perception)
        for kind in LAYOUT_MODELS:
            for key in self.store.partitions(kind):
                drawn = DrawnLayouts.read(self.store, kind, key)
                if looking is None or drawn is None or not any_wanted(drawn, truth):
                    self.left_out[f"{kind} {key}"] = (
                        "no held-out layout of it is drawn whose objects are known"
                    )
                    continue
                about = [
                    "sample_id",
                    "drawn",
                    "caption",
                    "boxes_xyxy_norm",
                    "seed",
                    "num_steps",
                    "guidance",
                    "strength",
                ]
                told = drawn.table.select(about).sort_by([("drawn", "ascending"), ("sample_id", "ascending")])
                settings = {"layouts": {"told": _digest(told.to_pylist()), "perception": looking.digest}}
                evidence = partial(_evidence_of_layouts, drawn, truth, self.perception)
                yield ScoredModel(kind, key, self.store.require(kind, key).digest, settings, evidence)

    def _settings(self, kind: str, key: str) -> Settings:
        reference = self._reference(kind, key)
        beside = {} if reference is None else {"reference": {"model": self.store.require(*reference).digest}}
        return {**self._common, **beside}

    @cached_property
    def _common(self) -> dict[str, dict[str, Any]]:
        wanted = self.wanted
        sampling = {"num_steps": wanted.num_steps, "guidance": wanted.guidance, "few_step": [4, 1.0]}
        prompts = self._prompts.select(["sample_id", "prompt", "seed"]).to_pylist()
        return {
            "pictures": {"prompts": _digest(prompts), **sampling, "dataset": self._dataset},
            "judge": {"digest": self.store.require("judge_clip").digest},
            "distractors": {"k": wanted.distractors},
            "real_pictures": {"samples": _digest(self._held_out_ids)},
            "held_out_errors": self._errors_settings(self._samples),
            **({"objects": self._objects_settings} if self._objects_settings else {}),
        }

    @cached_property
    def _objects_settings(self) -> dict[str, Any]:
        """What is looked for and who looks; nothing where perception is not to look, or prompts name no known object."""
        looking = self.perception.model("closed_set")
        if looking is None or not self._wanted_objects:
            return {}
        return {"perception": looking.digest, "wanted": _digest(self._wanted_objects)}

    @cached_property
    def _wanted_objects(self) -> dict[str, list[str]]:
        """By sample the objects that its prompt names, of scenes with a truth and of concepts that perception knows."""
        from evaluation.metrics.placement import wanted_objects
        from evaluation.metrics.scene_truth import read_truth

        if self.store.current("scene_truth") is None:
            return {}
        truth = read_truth(self.store.read_table("scene_truth"))
        known = self._prompts.filter(pc.equal(self._prompts["split"], KNOWN_OBJECTS))
        ids, prompts = known["sample_id"].to_pylist(), known["prompt"].to_pylist()
        named: dict[str, list[str]] = {}
        of_scenes = {key: prompt for key, prompt in zip(ids, prompts, strict=True) if key in truth}
        for item in wanted_objects(of_scenes, truth):
            named.setdefault(item.sample_id, []).append(item.name)
        return named

    def _objects(self, kind: str, key: str) -> LookedFor:
        from evaluation.metrics.objects_shown import LookedFor

        pictures, wanted = self._pictures(kind, key), self._wanted_objects
        rows = [row for row, name in enumerate(pictures.sample_ids) if name in wanted]
        ids = [pictures.sample_ids[row] for row in rows]
        found = look_at(pictures.images[rows], ids, self.perception, "closed_set")
        names = {key: {region.name for region in regions} for key, regions in found.items()}
        return LookedFor(
            [wanted.get(key, []) for key in pictures.sample_ids],
            [names.get(key, set()) for key in pictures.sample_ids],
        )

    def _errors_settings(self, samples: pa.Table) -> dict[str, Any]:
        return {"samples": _digest(sorted(samples["sample_id"].to_pylist())), "dataset": self._dataset}

    def _reference(self, kind: str, key: str) -> tuple[str, str] | None:
        """The model that one was made from, or is held beside, where both draw in as many steps and it is published."""
        if kind in OTHER_STEPS or key not in self.models.of(kind):
            return None
        named = [
            version
            for version in named_versions(self.models.recipes, kind, key)
            if version[0] in SCORED_MODELS
        ]
        return named[-1] if named and self.store.current(*named[-1]) is not None else None

    def _evidence(self, manifest: Manifest) -> Evidence:
        assert manifest.partition is not None
        kind, key = manifest.name, manifest.partition
        sources: dict[str, Callable[[], Any]] = {
            "pictures": lambda: self._pictures(kind, key),
            "held_out_errors": lambda: self._errors(manifest),
            "objects": lambda: self._objects(kind, key),
            **self._shared,
        }
        reference = self._reference(kind, key)
        if reference is not None:
            sources["reference"] = lambda: self._pictures(*reference)
        return Evidence(sources)

    @cached_property
    def _shared(self) -> dict[str, Callable[[], Any]]:
        """What is the same for all models, made once."""
        alike = Evidence({"judge": self._judge, "real_pictures": self._real_pictures})
        return {
            "judge": lambda: alike.judge,
            "distractors": lambda: self.wanted.distractors,
            "real_features": lambda: alike.real_features,
        }

    def _judge(self) -> Any:
        from evaluation.judge import Judge

        return Judge.load(self.store.local_folder("judge_clip", require_gate=True))

    def _real_pictures(self) -> np.ndarray:
        pairs = held_out_pairs(self.store)
        return decoded(pairs.filter(pc.is_in(pairs["sample_id"], value_set=pa.array(self._held_out_ids))))

    def _pictures(self, kind: str, key: str) -> Pictures:
        if (kind, key) not in self._drawn:
            table = self._stored_pictures(kind, key)
            self._drawn[kind, key] = _as_pictures(table if table is not None else self._draw(kind, key))
        return self._drawn[kind, key]

    def _stored_pictures(self, kind: str, key: str) -> pa.Table | None:
        """The wanted pictures, where they were drawn before by the same model in the same way."""
        digest = self.store.require(kind, key).digest
        steps, guidance = as_meant(self._folder(kind, key), self.wanted.num_steps, self.wanted.guidance)
        places = [*([("generated_samples", key)] if kind == "backbone" else []), (PICTURES, f"{kind}.{key}")]
        for name, partition in places:
            manifest = self.store.current(name, partition)
            if manifest is None or manifest.provenance.inputs.get("training_shards") != self._dataset:
                continue
            table = self.store.read_table(name, partition)
            same = pc.and_(pc.equal(table["model_digest"], digest), pc.equal(table["num_steps"], steps))
            found = _chosen(table.filter(pc.and_(same, pc.equal(table["guidance"], guidance))), self._prompts)
            if found is not None:
                return found
        return None

    def _draw(self, kind: str, key: str) -> pa.Table:
        folder = self._folder(kind, key)
        sampling = as_meant(folder, self.wanted.num_steps, self.wanted.guidance)
        drawn = draw_model(self.place, folder, self._prompts, sampling)
        keep_pictures(self.store, (kind, key), self.store.require(kind, key).digest, drawn, self.provenance)
        return drawn

    def _errors(self, manifest: Manifest) -> HeldOutErrors:
        found = None
        if manifest.name == "backbone" and self.store.current("denoising_errors") is not None:
            table = self.store.read_table("denoising_errors")
            same = pc.and_(
                pc.equal(table["model_digest"], manifest.digest),
                pc.equal(table["dataset_digest"], self._dataset),
            )
            found = errors_among(held_out_errors(table.filter(same), str(manifest.partition)), self._samples)
        if found is not None:
            return found
        folder = self._folder(manifest.name, str(manifest.partition))
        return measure_errors(self.place, folder, self._shards_folder, self._samples)

    def _runs(self) -> Iterator[ScoredModel]:
        """The scaling grid's runs, by what was scored when they had seen all their images."""
        for key in self.store.partitions("scaling_scores"):
            manifest = self.store.require("scaling_scores", key)
            read = manifest.provenance.inputs
            judge = self.store.require("judge_clip").digest
            if (read.get("training_shards"), read.get("judge_clip")) != (self._dataset, judge):
                self.left_out[f"scaling_run {key}"] = "was scored on other data or by another judge"
                continue
            yield self._run(key, self.store.read_table("scaling_scores", key), manifest.provenance.config)

    def _run(self, key: str, table: pa.Table, config: Mapping[str, Any]) -> ScoredModel:
        from evaluation.metrics.alignment import PairScores

        last = table.filter(pc.equal(table["images_seen"], pc.max(table["images_seen"])))
        values = {row["metric"]: np.array(row["by_sample"], np.float64) for row in last.to_pylist()}
        shards = self._shards
        samples = held_out_prompts(shards.samples, config["samples_per_split"], config["seed"])
        prompts = held_out_prompts(shards.samples, config["prompts_per_split"], config["seed"])
        errors = HeldOutErrors(
            tuple(samples["sample_id"].to_pylist()),
            tuple(samples["split"].to_pylist()),
            values["denoising_error"],
        )
        wanted = errors_among(errors, self._samples)
        order = np.array(pc.sort_indices(prompts, sort_keys=_BY_SAMPLE))
        sampling = {"num_steps": config["num_steps"], "guidance": config["guidance"], "few_step": [4, 1.0]}
        drawn = prompts.take(pa.array(order)).select(["sample_id", "prompt", "seed"]).to_pylist()
        pairs = PairScores(
            values["judge_cosine"][order], np.full(len(order), np.nan), values["judge_top1"][order], k=0
        )
        splits = tuple(prompts["split"].take(pa.array(order)).to_pylist())
        sources: dict[str, Callable[[], Any]] = {
            "held_out_errors": lambda: errors if wanted is None else wanted,
            "alignment": lambda: pairs,
            "prompt_splits": lambda: splits,
        }
        settings = {
            **self._common,
            "pictures": {"prompts": _digest(drawn), **sampling, "dataset": self._dataset},
            "distractors": {"k": config["distractors"]},
            "held_out_errors": self._errors_settings(samples if wanted is None else self._samples),
        }
        only = ("denoising_error", "judge_cosine", "judge_top1_of_k")  # no picture is kept
        digest = last["model_digest"][0].as_py()
        return ScoredModel("scaling_run", key, digest, settings, lambda: Evidence(sources), only)

    def _folder(self, kind: str, key: str) -> Path:
        return self.store.local_folder(kind, key, require_gate=True)

    @cached_property
    def _dataset(self) -> str:
        return self.store.require("training_shards", require_gate=True).digest

    @cached_property
    def _shards_folder(self) -> Path:
        return self.store.local_folder("training_shards", require_gate=True)

    @cached_property
    def _shards(self) -> Any:
        from training.shards import TrainingShards

        return TrainingShards.open(self._shards_folder)

    @cached_property
    def _prompts(self) -> pa.Table:
        found = held_out_prompts(self._shards.samples, self.wanted.prompts_per_split, self.wanted.seed)
        return found.sort_by(_BY_SAMPLE)

    @cached_property
    def _samples(self) -> pa.Table:
        return held_out_samples(self._shards, self.wanted.samples_per_split)

    @cached_property
    def _held_out_ids(self) -> list[str]:
        samples = self._shards.samples
        held = pc.is_in(samples["split"], value_set=pa.array(list(HELD_OUT)))
        return sorted(samples.filter(held)["sample_id"].to_pylist())


def _evidence_of_layouts(drawn: DrawnLayouts, truth: Mapping[str, Truth], perception: Perception) -> Evidence:
    return Evidence(
        {
            "layouts": lambda: told_boxes(drawn, truth, perception),
            "prompt_splits": lambda: (KNOWN_OBJECTS,) * len(drawn.layouts.sample_ids),
        }
    )


def _digest(value: Any) -> str:
    return sha256_bytes(canonical_json(value).encode())


def _chosen(table: pa.Table, prompts: pa.Table) -> pa.Table | None:
    """Rows of drawn prompts in the order of ``prompts``; None where one is missing or has another text or noise."""
    place = pc.index_in(prompts["sample_id"], value_set=table["sample_id"].combine_chunks())
    if place.null_count:
        return None
    found = table.take(place)
    same = all(found[name].to_pylist() == prompts[name].to_pylist() for name in ("prompt", "seed"))
    return found if same else None


def _as_pictures(table: pa.Table) -> Pictures:
    ids, splits, prompts = (tuple(table[name].to_pylist()) for name in ("sample_id", "split", "prompt"))
    return Pictures(ids, splits, prompts, pictures_of(table))
