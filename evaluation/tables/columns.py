"""Columns whose metadata carries meaning, units and ranges."""

from __future__ import annotations

import pyarrow as pa


def described(name: str, kind: pa.DataType, about: str, *, nullable: bool = False) -> pa.Field:
    """A column whose metadata says what it means, in which unit and range."""
    return pa.field(name, kind, nullable=nullable, metadata={"description": about})


def bounds(name: str, *, nullable: bool = False) -> list[pa.Field]:
    """The two columns of the 95 % interval of a column."""
    return [
        described(f"{name}_{end}", pa.float64(), f"{side} end of the 95 % interval", nullable=nullable)
        for end, side in (("low", "lower"), ("high", "upper"))
    ]
