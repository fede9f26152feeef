"""Reaching into chosen steps of sampling: another condition, or a context around the forward pass, such as hooks.

A control acts on both halves of classifier-free guidance, which go through the backbone together, the null's half
first. What it does may depend on the step alone, so that a step can be taken again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass, replace
from typing import Any, Protocol, runtime_checkable

from training.conditioning import Condition
from training.errors import FoundryError


@runtime_checkable
class Control(Protocol):
    """What acts on steps ``step`` of ``num_steps``, counted from 0, the first from pure noise."""

    def condition(self, given: Condition, step: int, num_steps: int) -> Condition:
        """What the step is told, its null included; ``given`` itself where nothing is changed."""
        ...

    def around(self, backbone: Any, step: int, num_steps: int) -> AbstractContextManager[Any]:
        """Entered around the step's forward pass."""
        ...

    def part(self, start: int, stop: int) -> Control:
        """The same for some of the rows, which are sampled by themselves."""
        ...


@dataclass(frozen=True)
class Window:
    """Steps from the fraction ``start`` of them to before ``stop``, as guiders of diffusers count: [int(a n), int(b n))."""

    start: float = 0.0
    stop: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.start <= self.stop <= 1:
            raise FoundryError(
                f"window: [{self.start:g}, {self.stop:g}) found; give fractions with 0 <= start <= stop <= 1"
            )

    def holds(self, step: int, num_steps: int) -> bool:
        """Whether a step lies inside."""
        return int(self.start * num_steps) <= step < int(self.stop * num_steps)


ALL_STEPS = Window()


@dataclass(frozen=True)
class OtherCondition:
    """Another condition inside a window, of as many rows; guidance, and a null it lacks, are those that were given."""

    other: Condition
    window: Window = ALL_STEPS

    def condition(self, given: Condition, step: int, num_steps: int) -> Condition:
        """See :class:`Control`. Raises FoundryError for another number of rows."""
        if not self.window.holds(step, num_steps):
            return given
        if len(self.other) != len(given):
            raise FoundryError(
                f"control: a condition of {len(self.other)} rows for {len(given)} pictures; give one a picture"
            )
        null = given.null if self.other.null is None else self.other.null
        return replace(self.other, null=null, guidance=given.guidance)

    def around(self, backbone: Any, step: int, num_steps: int) -> AbstractContextManager[Any]:
        """See :class:`Control`."""
        return nullcontext()

    def part(self, start: int, stop: int) -> OtherCondition:
        """See :class:`Control`."""
        return OtherCondition(self.other.part(start, stop), self.window)


@dataclass(frozen=True)
class Changed:
    """The condition that was given, changed inside a window: an attention mask, a layout, control latents."""

    change: Callable[[Condition], Condition]
    window: Window = ALL_STEPS

    def condition(self, given: Condition, step: int, num_steps: int) -> Condition:
        """See :class:`Control`."""
        return self.change(given) if self.window.holds(step, num_steps) else given

    def around(self, backbone: Any, step: int, num_steps: int) -> AbstractContextManager[Any]:
        """See :class:`Control`."""
        return nullcontext()

    def part(self, start: int, stop: int) -> Changed:
        """See :class:`Control`; the change is asked anew with the rows there are."""
        return self


@dataclass(frozen=True)
class Hooked:
    """A context of the backbone inside a window, such as hooks that replace keys and values or patch activations."""

    context: Callable[[Any], AbstractContextManager[Any]]
    window: Window = ALL_STEPS

    def condition(self, given: Condition, step: int, num_steps: int) -> Condition:
        """See :class:`Control`."""
        return given

    def around(self, backbone: Any, step: int, num_steps: int) -> AbstractContextManager[Any]:
        """See :class:`Control`."""
        return self.context(backbone) if self.window.holds(step, num_steps) else nullcontext()

    def part(self, start: int, stop: int) -> Hooked:
        """See :class:`Control`; the context sees the rows that go through."""
        return self


@dataclass(frozen=True)
class Watched:
    """Changes nothing: ``tell`` hears of every step before it is taken, and how many there are. What it raises ends the sampling."""

    tell: Callable[[int, int], None]

    def condition(self, given: Condition, step: int, num_steps: int) -> Condition:
        """See :class:`Control`."""
        return given

    def around(self, backbone: Any, step: int, num_steps: int) -> AbstractContextManager[Any]:
        """See :class:`Control`."""
        self.tell(step, num_steps)
        return nullcontext()

    def part(self, start: int, stop: int) -> Watched:
        """See :class:`Control`; every part counts its steps from 0."""
        return self


@dataclass(frozen=True)
class Together:
    """Several controls, the condition of one given to the next."""

    controls: Sequence[Control]

    def condition(self, given: Condition, step: int, num_steps: int) -> Condition:
        """See :class:`Control`."""
        for control in self.controls:
            given = control.condition(given, step, num_steps)
        return given

    def around(self, backbone: Any, step: int, num_steps: int) -> AbstractContextManager[Any]:
        """See :class:`Control`."""
        stack = ExitStack()
        for control in self.controls:
            stack.enter_context(control.around(backbone, step, num_steps))
        return stack

    def part(self, start: int, stop: int) -> Together:
        """See :class:`Control`."""
        return Together([control.part(start, stop) for control in self.controls])
