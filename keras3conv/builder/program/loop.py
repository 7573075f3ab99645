"""Define a loop over equivalent statements of a program."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from keras3conv.builder.program.program import Module, Step


@dataclass(frozen=True, kw_only=True)
class Loop:
    """A loop of generated code: statements that run several times, each time with different layers.

    Attributes:
        steps: The statements as they run the first time, with `Argument`s for the values that differ.
        modules: The modules that these statements call, with `Argument`s for the values that differ.
        labels: For each of these modules, its name with `{}` in the place of `variable`.
        variable: The loop variable in the names of the modules; empty if no module has a name.
        columns: The variables of the loop, and the value of each in every turn.
        carried: Pairs of a value that the first turn takes and the value that the next turn takes in its place.
        turns: The number of turns (iterations).
        last: For each value of the last turn, the corresponding value of the first turn.
    """

    steps: tuple[Step, ...]
    modules: Mapping[str, Module]
    labels: Mapping[str, str]
    variable: str
    columns: Mapping[str, tuple[Any, ...]]
    carried: tuple[tuple[str, str], ...]
    turns: int
    last: Mapping[str, str]


Body = Sequence[Step | Loop]
"""The statements of a function, some of them loops."""


def flat(body: Body) -> list[Step]:
    """Return the statements as a flat list; each statement of a loop is in it once, not once per turn."""
    return [step for one in body for step in (one.steps if isinstance(one, Loop) else (one,))]


__all__ = ["Body", "Loop", "flat"]
