"""Taking an image down: the decision is logged, models that were trained on it are marked, and next steps are named."""

from __future__ import annotations

from dataclasses import dataclass

from assets.versioning.impact import Impact, impact
from assets.versioning.subjects import Subject, find_subject
from orchestration.resources.records import Mark, Takedown, current_user, now
from orchestration.resources.store import ManifestStore


@dataclass(frozen=True)
class Removal:
    """What a takedown found and did. ``changed`` is false where the image was removed (or allowed) already."""

    impact: Impact
    changed: bool
    undo: bool
    next_steps: list[str]


def remove(store: ManifestStore, argument: str, because: str = "", *, undo: bool = False) -> Removal:
    """Take an image down, or allow it again with ``undo``. A sample stands for its image.

    Nothing stored is rewritten: the next versions leave the image out. Raises FoundryError when ``argument`` means
    nothing or several things.
    """
    found = find_subject(store, argument)
    subject = found if found.is_image else find_subject(store, found.image_id)
    changed = (subject.image_id in store.takedowns()) == undo
    if changed:
        store.records.take_down(Takedown(subject.image_id, because, current_user(), now(), undo))
    effect = impact(store, subject)
    if not undo:
        mark_models(store, effect)
    return Removal(effect, changed, undo, _next_steps(effect, undo))


def mark_models(store: ManifestStore, effect: Impact) -> None:
    """Write down which models were trained on a removed image, so that it is known after old bytes are collected."""
    samples = tuple(sorted(effect.subject.sample_ids))
    for use in effect.trained:
        record = Mark(use.name, use.partition, use.digest, effect.subject.image_id, samples, now())
        store.records.mark(record)


def _next_steps(effect: Impact, undo: bool) -> list[str]:
    steps = []
    if not effect.subject.is_known:
        return ["It has not landed so far; it is refused when it does."] if not undo else []
    if undo:
        return [
            "Run `foundry demo`, or materialize landed_images and what follows: the image is taken in again."
        ]
    current = [holding for holding in effect.holdings if holding.state == "current"]
    if current:
        steps.append(
            "Run `foundry demo`, or materialize landed_images and what follows: new versions leave it out."
        )
    if any(use.state == "current" for use in effect.trained):
        steps.append(
            "Train the marked models again from the new training_shards; until then their check warns."
        )
    if effect.holdings:
        steps.append(
            "Then run `foundry gc --takedowns --yes`: it drops the bytes of old versions that hold the image."
        )
    steps.append(
        f"Delete the original yourself: landing folders are not touched ({_places(effect.subject)})."
    )
    steps.append(
        "Nor is anything else outside the store: previews in Dagster's event log, run folders and judge_dataset beside "
        "the store, report.html until the next report, and exports that were made."
    )
    return steps


def _places(subject: Subject) -> str:
    return ", ".join(subject.keys[:5]) + (
        f" and {len(subject.keys) - 5} more" if len(subject.keys) > 5 else ""
    )
