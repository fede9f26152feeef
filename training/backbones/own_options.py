"""Constructors of classes that descend from a stock one and have one option more in their config.json."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any


def constructor_with(
    stock: Any, option: str, grow: Callable[[Any, Mapping[str, Any] | None], None]
) -> Callable[..., None]:
    """The constructor of a stock class with ``option`` beside its own arguments, by which diffusers finds them.

    The option's value (a mapping, or None) is kept in the configuration; ``grow`` makes of the stock model what it says.
    """

    def __init__(self: Any, *args: Any, **arguments: Any) -> None:  # noqa: N807
        given = arguments.pop(option, None)
        stock.__init__(self, *args, **arguments)
        self.register_to_config(**{option: dict(given or {})})
        grow(self, given)

    own = inspect.Parameter(option, inspect.Parameter.KEYWORD_ONLY, default=None)
    known = inspect.signature(stock.__init__)
    __init__.__signature__ = known.replace(parameters=[*known.parameters.values(), own])  # type: ignore[attr-defined]
    return __init__
