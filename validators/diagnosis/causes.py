"""What explains that two models part at one place: torch is run again with a suspect's change, or with two at once."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from time import monotonic
from typing import TYPE_CHECKING

import numpy as np

from keras3conv.errors import ModelError
from keras3conv.numerics.difference import FLOAT64_LIMIT, compare, judge
from keras3conv.transforms import Array, Shape

if TYPE_CHECKING:
    from keras3conv.frameworks.torch.replay import Change, Key, Replayed, Stage, Target
    from keras3conv.validators.diagnosis.suspects.base import Case, Suspicion

PATIENCE = 30.0
"""Seconds after which no other suspect is tried: a model that runs for long has many places to look at."""

CLOSER = 4.0
"""A change that does not bring torch at least so many times closer to Keras explains nothing, even within the noise."""

MUCH_CLOSER = 10.0
"""A change that brings torch so many times closer to Keras is half of an explanation."""


_SHOWN = 3


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """A cause in words, and the line to paste.

    Attributes:
        cause: What the two sides do not share, or why it was not found.
        fix: The line to paste; empty where there is none.
        is_found: Whether a suspect explains the difference.
    """

    cause: str
    fix: str
    is_found: bool = True

    @property
    def fixes(self) -> tuple[str, ...]:
        """The line to paste, where there is one."""
        return (self.fix,) if self.fix else ()


@dataclass(frozen=True, kw_only=True)
class Scene:
    """Where two runs part, and how to see what torch would compute there.

    Attributes:
        stage: The torch module, with what it is called with, and its tensors.
        target: The call of the layer, or the end of the model.
        wanted: What Keras has there.
        found: What torch has there, in Keras' layout.
        look: Picks that out of a replay.
        float64: Whether the proof that failed ran in float64.
        flattened: What torch flattened into the layer's input.
    """

    stage: "Stage"
    target: "Target"
    wanted: Array
    found: Array
    look: "Callable[[Replayed], Array]"
    float64: bool
    flattened: Shape | None = None

    def attempt(self, changes: "Mapping[Key, Change]", tensors: "Mapping[str, Array] | None" = None) -> Array | None:
        """What torch has there with these changes, in the precision of the proof; None where they cannot be made."""
        return self._replay(changes, tensors or {}, float64=self.float64)

    def truth(self, changes: "Mapping[Key, Change]", tensors: "Mapping[str, Array]") -> Array | None:
        """The same in float64."""
        return self._replay(changes, tensors, float64=True)

    def _replay(
        self, changes: "Mapping[Key, Change]", tensors: "Mapping[str, Array]", *, float64: bool
    ) -> Array | None:
        try:
            return self.look(self.stage.replay(self.target, changes=changes, tensors=tensors, float64=float64))
        except ModelError:
            return None


def first_cause(scene: Scene, case: "Case", until: float, *, alone: bool = False) -> Explanation | None:
    """The best suspicion of the first suspect that has one that explains the difference; else two that do together.

    Where none does, the one that brings torch closest is taken for granted, and what is left after it is looked at in
    the same way: two models may differ in more than one thing.

    Args:
        scene: Where the two part.
        case: What the suspects are given.
        until: When no other suspect is tried, on the monotonic clock. What is left has as long again as there is.
        alone: Whether only one cause is looked for.
    """
    found, partial = _tried(scene, case, until, None)
    if alone or partial is None or (found is not None and found.is_found):
        return found
    both, _ = _tried(scene, case, monotonic() + PATIENCE, partial)
    return both if both is not None and both.is_found else found


def _tried(
    scene: Scene, case: "Case", until: float, granted: "_Trial | None"
) -> "tuple[Explanation | None, _Trial | None]":
    """Tries every suspect: what explains the difference, and else what brings torch much closer than all others."""
    from keras3conv.validators.diagnosis.suspects import SUSPECTS

    partial: _Trial | None = None
    for tried, suspect in enumerate(SUSPECTS):
        close = []
        for trial in _trials(scene, list(suspect.suspicions(case)), granted):
            if trial.is_closer:
                close.append(trial)
            if monotonic() > until:
                return _stopped(tried, len(SUSPECTS)), partial
        close.sort(key=lambda trial: (not trial.explains, trial.left))
        if close and close[0].explains:
            best = close[0].suspicion
            return Explanation(cause=best.cause, fix=best.fix), None
        if (
            close
            and MUCH_CLOSER * close[0].left <= close[0].before
            and (partial is None or close[0].left < partial.left)
        ):
            partial = close[0]
    return None, partial


def _trials(scene: Scene, suspicions: "list[Suspicion]", granted: "_Trial | None") -> "Iterator[_Trial]":
    """Every suspicion by itself; then those of one cause at once, all, and all that bring torch any closer."""
    by_cause: dict[str, list[tuple[Suspicion, bool]]] = {}
    for suspicion in suspicions:
        trial = _trial(scene, suspicion, granted)
        by_cause.setdefault(suspicion.cause, []).append((suspicion, trial is not None and trial.left < trial.before))
        if trial is not None:
            yield trial
    for alike in by_cause.values():
        helping = [suspicion for suspicion, helps in alike if helps]
        for several in ([suspicion for suspicion, _ in alike], helping if len(helping) < len(alike) else []):
            joined = _at_once(several)
            trial = _trial(scene, joined, granted) if joined is not None else None
            if trial is not None:
                yield trial


def _at_once(alike: "list[Suspicion]") -> "Suspicion | None":
    """One cause in several places; None where these are no several places."""
    from keras3conv.validators.diagnosis.suspects.base import Suspicion

    changes: dict[Key, Change] = {}
    for suspicion in alike:
        changes |= suspicion.changes
    if len(alike) < 2 or len(changes) != len(alike):
        return None
    return Suspicion(cause=alike[0].cause, fix=_lines(suspicion.fix for suspicion in alike), changes=changes)


def _lines(fixes: Iterable[str]) -> str:
    """What to paste, a line for each of the first few places."""
    lines = list(dict.fromkeys(fixes))
    more = [f"# and in {len(lines) - _SHOWN} more places"] if len(lines) > _SHOWN else []
    return "\n".join([*lines[:_SHOWN], *more])


def _stopped(tried: int, number: int) -> Explanation:
    cause = f"the search for the cause stopped after {PATIENCE:g} s: {tried} of {number} usual suspects had been tried"
    return Explanation(cause=cause, fix="", is_found=False)


@dataclass(frozen=True)
class _Trial:
    """What a suspicion comes to.

    Attributes:
        suspicion: The suspicion, with what was taken for granted.
        before: How far from Keras torch was without it.
        left: How far it still is.
        explains: Whether no more is left than rounding.
    """

    suspicion: "Suspicion"
    before: float
    left: float
    explains: bool

    @property
    def is_closer(self) -> bool:
        """Whether it brings torch closer to Keras by more than chance would."""
        return CLOSER * self.left <= self.before


def _trial(scene: Scene, suspicion: "Suspicion", granted: _Trial | None) -> _Trial | None:
    """Runs torch with a suspicion's change, beside what is taken for granted; None where that cannot be done."""
    before = distance(scene.found, scene.wanted)
    if granted is not None:
        both = _together(granted.suspicion, suspicion)
        if both is None:
            return None
        suspicion, before = both, granted.left
    predicted = scene.attempt(suspicion.changes, suspicion.tensors)
    if predicted is None or predicted.shape != scene.wanted.shape:
        return None
    left = distance(predicted, scene.wanted)
    return _Trial(suspicion, before, left, CLOSER * left <= before and _explains(scene, suspicion, predicted))


def _together(first: "Suspicion", second: "Suspicion") -> "Suspicion | None":
    """Both changes at once; None where one would undo the other."""
    from keras3conv.validators.diagnosis.suspects.base import Suspicion

    if first.changes.keys() & second.changes.keys() or first.tensors.keys() & second.tensors.keys():
        return None
    return Suspicion(
        cause=f"{first.cause}; and {second.cause}",
        fix=f"{first.fix}\n{second.fix}",
        changes={**first.changes, **second.changes},
        tensors={**first.tensors, **second.tensors},
    )


def _explains(scene: Scene, suspicion: "Suspicion", predicted: Array) -> bool:
    """Whether what torch computes with this change is what Keras does, to rounding."""
    if scene.float64:
        diff = compare(scene.wanted, predicted)
        return diff.max_rel <= FLOAT64_LIMIT and diff.nonfinite == 0
    truth = scene.truth(suspicion.changes, suspicion.tensors)
    return truth is not None and judge(scene.wanted, predicted, truth).passed


def distance(first: Array, second: Array) -> float:
    """The largest absolute difference; infinite where the shapes differ or a value is not finite."""
    if first.shape != second.shape:
        return float("inf")
    with np.errstate(invalid="ignore"):  # an infinity less another one
        largest = float(np.max(np.abs(first.astype(np.float64) - second.astype(np.float64)), initial=0.0))
    return largest if np.isfinite(largest) else float("inf")
