"""How good a trained backbone is as a teacher: does it paint what a caption names, where it belongs?

Prompts are the best generated captions of held-out scenes (they name objects, colours and places); the judge and
perception look at the pictures, and the scenes' truth only scores. Real pictures of the same captions and their
reconstructions by the autoencoder are scored alike: the ceilings that no model in these latents can pass.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from assets.graph.interfaces import Perception, Store
from assets.models.drawing import DrawingPlace, draw_model, pictures_of
from assets.models.looking import LookingRole, look_at
from assets.pages.markdown import markdown_table
from assets.pages.tables import Column, Entry, Table
from evaluation.intervals import Interval
from training.errors import FoundryError

if TYPE_CHECKING:
    from evaluation.judge import Judge
    from evaluation.metrics.binding import Binding, Colored
    from evaluation.metrics.placement import Wanted
    from training.conditioning import Condition

SPLIT = "held_out_images"
JUDGED_AMONG = (8, 32)
"""The judge picks the caption out of so many; chance is one over it."""


@dataclass(frozen=True)
class CaptionedScenes:
    """Held-out scenes with the caption that prompts a model, and the objects that the caption names."""

    sample_ids: tuple[str, ...]
    prompts: tuple[str, ...]
    images: np.ndarray  # [n, h, w, 3] uint8
    wanted: tuple[Wanted, ...]
    colored: tuple[Colored, ...] = ()
    allowed: Interval | None = None  # centres that a perfect painter of these captions hits


def captioned_scenes(store: Store) -> CaptionedScenes:
    """Held-out scenes of training concepts that have a kept generated caption.

    Raises FoundryError when there are none, as with data that have no truth.
    """
    from assets.models.judging import decoded, held_out_pairs
    from evaluation.metrics.binding import colored_objects
    from evaluation.metrics.caption_layouts import centres_that_captions_allow
    from evaluation.metrics.placement import wanted_objects
    from evaluation.metrics.scene_truth import read_truth

    captions = best_captions(store)
    pairs = held_out_pairs(store)
    of_split = pc.equal(pairs["split"], SPLIT)
    chosen = pairs.filter(pc.and_(of_split, pc.is_in(pairs["sample_id"], pa.array(sorted(captions)))))
    if chosen.num_rows == 0 or store.current("scene_truth") is None:
        raise FoundryError(
            f"No composed scene of split '{SPLIT}' has a generated caption, so teachers cannot be scored. "
            "Use a profile of composed scenes and materialize recaptions."
        )
    ids = chosen["sample_id"].to_pylist()
    truth = read_truth(store.read_table("scene_truth"))
    prompts = {key: captions[key] for key in ids}
    wanted = tuple(wanted_objects(prompts, truth))
    return CaptionedScenes(
        tuple(ids),
        tuple(prompts.values()),
        decoded(chosen),
        wanted,
        tuple(colored_objects(prompts, truth)),
        centres_that_captions_allow(wanted, prompts, captions, truth),
    )


def best_captions(store: Store) -> dict[str, str]:
    """The first kept generated caption of each sample."""
    rows = store.read_all("recaptions", ["sample_id", "caption_index", "caption", "keep"])
    rows = rows.filter(rows["keep"]).sort_by([("sample_id", "ascending"), ("caption_index", "descending")])
    return dict(zip(rows["sample_id"].to_pylist(), rows["caption"].to_pylist(), strict=True))


def draw_scenes(
    place: DrawingPlace, model_folder: Path, scenes: CaptionedScenes, sampling: Sampling
) -> np.ndarray:
    """A picture of each caption from noise of its own: [n, h, w, 3] uint8."""
    seeds = pa.array(range(len(scenes.prompts)), pa.int64())
    prompts = pa.table({"prompt": list(scenes.prompts), "seed": seeds})
    return pictures_of(draw_model(place, model_folder, prompts, (sampling.num_steps, sampling.guidance)))


class CaptionTexts:
    """Texts of any prompts, by their column ``prompt``."""

    def __init__(self) -> None:
        from training.text_encoders import MiniLMEncoder

        self._encoder = MiniLMEncoder()

    def __call__(self, prompts: pa.Table) -> Condition:
        return self._encoder.prompts(prompts["prompt"].to_pylist())


@dataclass(frozen=True)
class Sampling:
    """How a teacher draws when it is scored: evaluations of its scheduler and guidance scale."""

    num_steps: int = 16
    guidance: float = 3.0


@dataclass(frozen=True)
class ScoredTeacher:
    """A teacher's scores beside the ceilings of its latents and of the judge, and the pictures that were scored."""

    scores: dict[str, Any]
    images: np.ndarray  # [n, h, w, 3] uint8


def ceilings(
    store: Store, scenes: CaptionedScenes, judge: Judge, perception: Perception
) -> dict[str, dict[str, Any]]:
    """What real pictures of the same captions score, the same pictures through the autoencoder and back, and how many
    centres their captions allow to hit, which do not tell every place."""
    from training.model_folders.autoencoders import reconstructed

    restored = reconstructed(store.local_folder("autoencoder"), scenes.images)
    allowed = {"captions": {"centres_hit": _figures(scenes.allowed)}} if scenes.allowed else {}
    return allowed | {
        "real": score_pictures(scenes.images, scenes, judge, perception),
        "reconstructed": score_pictures(restored, scenes, judge, perception),
    }


def score_teacher(
    place: DrawingPlace,
    folder: Path,
    scenes: CaptionedScenes,
    judge: Judge,
    perception: Perception,
    sampling: Sampling,
    tops: Mapping[str, Mapping[str, Any]],
) -> ScoredTeacher:
    """Draw the captions with a pipeline folder and score what it drew; ``place`` reads :class:`CaptionTexts`.

    ``tops`` are the :func:`ceilings` of the same scenes.
    """
    images = draw_scenes(place, folder, scenes, sampling)
    own = score_pictures(images, scenes, judge, perception)
    drawn_with = {"num_steps": sampling.num_steps, "guidance": sampling.guidance}
    wanted = bars(tops["reconstructed"])
    scores = {
        "sampling": drawn_with,
        "teacher": own,
        "ceilings": tops,
        "bars": wanted,
        "verdict": verdict(own, wanted),
    }
    return ScoredTeacher(scores, images)


ROWS = {
    "judge_top1_of_8": "judge picks its caption out of 8",
    "judge_top1_of_32": "judge picks its caption out of 32",
    "objects_shown": "objects shown, closest concept",
    "centres_hit": "objects' centres hit, closest concept",
    "named_centres_hit": "objects' centres hit, named with confidence",
    "colors_bound": "of objects at their place, in the colour asked",
    "twins_bound": "the same for one shape in two colours (floor: exchanged)",
}


SCORE_COLUMNS = (
    Column("Score"),
    Column("Value", ".3f", note="95 %"),
    Column("Floor", ".3f", "unknown"),
    Column("Its latents", ".3f"),
    Column("Real pictures", ".3f"),
    Column("Its captions", ".3f"),
    Column("Bar"),
)


def score_rows(scores: Mapping[str, Any]) -> list[tuple[Entry, ...]]:
    """Scores beside their chance or floor, the ceilings, and the bar that each met or missed."""
    own, tops = scores["teacher"], scores["ceilings"]
    return [
        (
            title,
            Interval(own[key]["value"], own[key]["low"], own[key]["high"]),
            own[key].get("chance", own[key].get("floor")),
            *(tops[name][key]["value"] for name in ("reconstructed", "real")),
            tops.get("captions", {}).get(key, {}).get("value"),
            _bar(scores, key),
        )
        for key, title in ROWS.items()
        if all(key in scored for scored in (own, tops["reconstructed"], tops["real"]))
    ]


def _bar(scores: Mapping[str, Any], key: str) -> str:
    """The bar of a score and whether it was met; teachers packed before bars were written down say the latter alone."""
    side, bar = scores["verdict"].get(key, ""), scores.get("bars", {}).get(key)
    return side if bar is None else f"{bar:.3f}: {side}"


def scores_markdown(scores: Mapping[str, Any]) -> str:
    """Scores beside their chance or floor and the ceilings, in Markdown, for the asset page and the card."""
    num, objects = scores["teacher"]["num_pictures"], scores["teacher"]["num_objects"]
    return markdown_table(Table(SCORE_COLUMNS, score_rows(scores))) + (
        f"\n\n{num} held-out scenes, prompted by their generated captions, {objects} objects named; "
        f"{scores['sampling']['num_steps']} steps, guidance {scores['sampling']['guidance']:g}. Floor: chance, or the same "
        "objects sought in the pictures of all other prompts, or colours exchanged at random. Its captions: what other "
        "scenes hit whose captions say the same of other things."
    )


def teacher_card(card: str, scores: Mapping[str, Any]) -> str:
    """The model's own card, and what it is worth as a teacher."""
    missed = [ROWS[key] for key, side in scores["verdict"].items() if side != "holds"]
    misses = f"\n\nBars that are missed or not clearly passed: {'; '.join(missed)}." if missed else ""
    return (
        f"{card}\n## As a teacher\n\n{scores_markdown(scores)}{misses}\n\nHere its weights are rounded to fp16, and "
        "these scores are those of the rounded ones. The shipped autoencoder belongs to it and is added when the asset "
        "`teacher_backbone` publishes it (`training.model_folders.teachers.assemble_teacher` from Python).\n"
    )


def score_pictures(
    images: np.ndarray, scenes: CaptionedScenes, judge: Judge, perception: Perception
) -> dict[str, Any]:
    """Judge's top-1 among 8 and 32 captions, and shares of objects shown and of centres hit, each with interval.

    Objects count twice: by the closest concept of perception's bank (``centres_hit``: one of the training concepts is
    taken for granted), and by the names that perception would give a scene (``named_centres_hit``: it says nothing
    where a picture is unlike the bank's clean drawings).
    """
    from evaluation.metrics.alignment import score_pairs, summarise_pairs
    from evaluation.metrics.binding import score_binding
    from evaluation.metrics.placement import score_placement

    scores: dict[str, Any] = {}
    for k in JUDGED_AMONG:
        if k <= len(set(scenes.prompts)):
            pairs = score_pairs(
                judge.embed_images(images), judge.embed_texts(scenes.prompts), scenes.prompts, k
            )
            top = summarise_pairs(pairs).top1_of_k
            scores[f"judge_top1_of_{k}"] = _figures(top, chance=pairs.chance)
    looks: tuple[tuple[str, LookingRole], ...] = (("", "closed_set"), ("named_", "regions"))
    for prefix, role in looks:
        found = look_at(images, scenes.sample_ids, perception, role)
        placement = score_placement(scenes.wanted, found)
        scores[f"{prefix}objects_shown"] = _figures(placement.shown, floor=placement.shown_floor)
        scores[f"{prefix}centres_hit"] = _figures(placement.hit, floor=placement.hit_floor)
        if role == "closed_set" and (bound := score_binding(scenes.colored, found)):
            scores |= _bound(bound)
    return {**scores, "num_pictures": len(images), "num_objects": len(scenes.wanted)}


def _bound(binding: Binding) -> dict[str, Any]:
    """Colours on their objects, and of those on twins the share of exchanged ones as the floor."""
    scores = {"colors_bound": _figures(binding.own_color, floor=binding.floor, num=binding.num_objects)}
    if binding.twins is not None:
        scores["twins_bound"] = _figures(binding.twins, floor=binding.twins_exchanged, num=binding.num_twins)
    return scores


def _figures(interval: Any, **beside: float) -> dict[str, float]:
    return {"value": interval.value, "low": interval.low, "high": interval.high, **beside}


def bars(reconstructed: Mapping[str, Any]) -> dict[str, float]:
    """What a teacher is asked for: 70% of the objects shown, half of all at their place, and the judge picks the caption
    at least three times for every four that it does of the reconstructions."""
    judged = f"judge_top1_of_{JUDGED_AMONG[-1]}"
    allowed = {judged: 0.75 * reconstructed[judged]["value"]} if judged in reconstructed else {}
    return {"objects_shown": 0.7, "centres_hit": 0.5, **allowed}


def verdict(scores: Mapping[str, Any], wanted: Mapping[str, float]) -> dict[str, str]:
    """Whether a teacher is worth its name, by each of its :func:`bars`.

    ``holds`` or ``fails`` when the whole 95% interval lies on one side of the bar, else ``inside the noise``.
    """
    return {name: _side(scores[name], bar) for name, bar in wanted.items()}


def _side(figures: Mapping[str, float], bar: float) -> str:
    if figures["low"] >= bar:
        return "holds"
    return "fails" if figures["high"] < bar else "inside the noise"
