"""Which models that are made from others a demo makes: those that the profile names, or every one."""

from __future__ import annotations

from collections.abc import Mapping

from orchestration.profile import Profile


def derived_models(profile: Profile, *, everything: bool) -> Mapping[str, list[str]]:
    """Partitions to make of each asset whose models start from another model, in the order of the profile's files.

    Units are scored for the pruned models that are asked for. ``everything`` adds what a demo has no time for, the studies
    among it.
    """

    def wanted(names: Mapping[str, object]) -> list[str]:
        return [name for name in names if everything or name in profile.demo_models]

    pruned = wanted(profile.pruned)
    scorings = {profile.pruned[name].scores for name in pruned}
    return {
        "step_distilled_backbone": wanted(profile.step_distilled),
        "distilled_backbone": wanted(profile.distilled),
        "unit_scores": [name for name in profile.unit_scores if everything or name in scorings],
        "pruned_backbone": pruned,
        "fine_tuned_backbone": wanted(profile.fine_tuned),
    }
