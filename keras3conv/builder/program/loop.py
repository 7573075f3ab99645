"""Define a loop over equivalent statements of a program."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from keras3conv.builder.program.program import Module, Step


@dataclass(frozen=True, kw_only=True)
class Loop:
    """A loop of generated code: statements that run several times, each time with different layers.

    Attributes:
        steps: The statements as they run in the first iteration, with an `Argument` for each value that differs between
            iterations.
        modules: The modules that these statements call, by name, with an `Argument` for each value that differs.
        labels: For each of these modules, its name with `{}` for the loop variable, once or several times: {"conv1":
            "conv{}", "block1_conv1": "block{}_conv{}"}.
        variable: The loop variable that the names of the modules contain, "number"; empty if there is none.
        columns: For each variable of the loop, its value in every iteration.
        carried: Pairs (value from before the loop, value that an iteration computes), by name. The first iteration uses
            the first one; each later iteration uses the second one, of the iteration before it.
        iterations: The number of iterations.
        last: For each value that the last iteration computes, the name of the corresponding value of the first
            iteration.
        collected: For each value that every iteration appends to a list, because the program returns it: its name in
            every iteration.
    """

    steps: tuple[Step, ...]
    modules: Mapping[str, Module]
    labels: Mapping[str, str]
    variable: str
    columns: Mapping[str, tuple[Any, ...]]
    carried: tuple[tuple[str, str], ...]
    iterations: int
    last: Mapping[str, str]
    collected: tuple[tuple[str, ...], ...] = ()


Body = Sequence[Step | Loop]
"""The statements of a function, some of them loops."""


def flat(body: Body) -> list[Step]:
    """Return the statements as a flat list; each statement of a loop is in it once, not once per iteration."""
    return [step for one in body for step in (one.steps if isinstance(one, Loop) else (one,))]
