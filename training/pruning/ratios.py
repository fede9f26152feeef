"""Keep ratios and sparsities as exact numbers: 29% of 100 units are 29, which 100 * 0.29 in floating point is not."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from fractions import Fraction

from training.errors import FoundryError
from training.pruning._layers import Kind

Ratio = str | int | float | Decimal | Fraction


def exact(ratio: Ratio, field: str = "ratio") -> Fraction:
    """The number as its decimal text says it: 0.29 is 29/100. Raises FoundryError for what is no finite number."""
    try:
        return Fraction(str(ratio))
    except (ValueError, ZeroDivisionError):
        raise FoundryError(f"{field}: '{ratio}' is no finite number; write one such as 0.2") from None


def keep_ratio(ratio: Ratio, field: str = "ratio") -> Fraction:
    """A share of units to keep, more than 0 and at most 1. Raises FoundryError for any other."""
    found = exact(ratio, field)
    if not 0 < found <= 1:
        raise FoundryError(f"{field}: {ratio} found, allowed is more than 0 (nothing would be left) to 1")
    return found


def ratio_of_sparsity(sparsity: Ratio) -> Fraction:
    """The share that is kept at a sparsity, 0 (all) to less than 1. Raises FoundryError for any other."""
    found = exact(sparsity, "sparsity")
    if not 0 <= found < 1:
        raise FoundryError(
            f"sparsity: {sparsity} found, allowed is 0 to less than 1, where nothing would be left"
        )
    return 1 - found


def ratios_named(text: str, kinds: Sequence[Kind]) -> dict[Kind, Ratio]:
    """One number for all kinds, or one for each as in ``heads=0.2,ffn=0.3``; their range is checked where they are used.

    Raises FoundryError when a kind is given twice, is not among ``kinds`` or is left out.
    """
    if "=" not in text:
        return dict.fromkeys(kinds, text)
    pairs = [part.partition("=") for part in text.split(",")]
    given = {name.strip(): value.strip() for name, _, value in pairs}
    if len(given) != len(pairs) or set(given) != set(kinds):
        raise FoundryError(
            f"sparsity: '{text}' found, kinds are {', '.join(kinds)}; write one number, or "
            f"{','.join(f'{kind}=0.2' for kind in kinds)}"
        )
    return {kind: given[kind] for kind in kinds}


def keep_count(num_units: int, ratio: Ratio) -> int:
    """floor(N * r) without rounding error."""
    return int(num_units * exact(ratio) // 1)
