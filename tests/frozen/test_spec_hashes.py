"""No recipe of any profile has become another one: its training would start again under another hash."""

from __future__ import annotations

import pytest

from tests.frozen import recipes

FROZEN = recipes.read()


@pytest.mark.parametrize("profile", [*recipes.PROFILES, recipes.PLANNED_ONLY])
def test_recipes_resolve_as_they_did(profile: str) -> None:
    """New recipes and assets may come; those that were there keep their digests."""
    frozen = {kind: digests for kind, digests in FROZEN.items() if kind.startswith(f"{profile} ")}
    assert frozen
    found = recipes.digests_of_profile(profile)
    wrong = [
        f"{kind} {name}: {found.get(kind, {}).get(name, 'no longer there')}, was {digest}"
        for kind, digests in frozen.items()
        for name, digest in digests.items()
        if found.get(kind, {}).get(name) != digest
    ]
    assert not wrong, "\n" + "\n".join(wrong)
