"""The choices of the probe, and the way back: which were made in which call, which are open, which were wrong."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from keras3conv.numerics.fingerprint import EXACT
from keras3conv.planner.probe.option import Option, Part

MOST_TRIES = 30
"""How often the probe goes back for one layer that does not agree, before it is left unconfirmed."""

Name = tuple[object, ...]
"""What tells one option of a layer from the others."""


class Backtrack(BaseException):  # no Exception: Keras catches those, and raises another in their place
    """Leads back to the call in which an earlier choice was made.

    Args:
        frame: The call that is run again.
    """

    def __init__(self, frame: int) -> None:
        super().__init__()
        self.frame = frame


@dataclass(kw_only=True)
class Choice:
    """What a layer, or a variable of its own, was filled with.

    Attributes:
        path: The Keras layer or variable.
        option: What it was filled with.
        error: How far its output was from torch's; None where that cannot be said of it alone.
        frames: The calls that were open.
        others: What would do as well, as far as this layer alone can tell.
        closed: Whether it is not made again.
        forced: Whether it returned what torch returned, because its own output differed.
        doubtful: Whether no output told that it is right.
        settled_by: The layer whose input told this choice from the others.
        factor: What torch's output is to be multiplied with.
        input_agrees: Whether its input is what torch's layer was given.
        limit: How far the same values may be from torch's.
        hides: What torch's layer depends on, where nothing after this one can tell whether it is right, as bits.
    """

    path: str
    option: Option
    error: float | None
    frames: tuple[int, ...]
    others: tuple[Option, ...] = ()
    closed: bool = False
    forced: bool = False
    doubtful: bool = False
    settled_by: str = ""
    factor: float = 1.0
    input_agrees: bool = True
    limit: float = EXACT
    hides: int = 0


@dataclass
class _Failing:
    """A layer that did not agree: what was open before the search for it, and how often that was changed."""

    path: str
    before: dict[str, Choice]
    tries: int = 0


@dataclass
class Trail:
    """The choices in their order, the calls that are open, and what was found to be wrong.

    Attributes:
        choices: What was chosen, by the path of the Keras layer or variable.
    """

    choices: dict[str, Choice] = field(default_factory=dict)
    _stack: list[int] = field(default_factory=list)
    _log: list[str] = field(default_factory=list)
    _counts: Counter[str] = field(default_factory=Counter)
    _frames: int = 0
    _rejected: dict[str, set[Name]] = field(default_factory=dict)
    _pinned: dict[str, Choice] = field(default_factory=dict)
    _given_up: set[str] = field(default_factory=set)
    _failing: _Failing | None = None
    _taken: dict[str, list[Part]] = field(default_factory=dict)

    def open_frame(self) -> tuple[int, int]:
        """Notes that a layer is called that has layers in it; the call, and how many calls there were before it."""
        self._frames += 1
        self._stack.append(self._frames)
        return self._frames, len(self._log)

    def close_frame(self, frame: tuple[int, int]) -> None:
        """Notes that the call is over."""
        del self._stack[self._stack.index(frame[0]) :]

    def restart_frame(self, frame: tuple[int, int]) -> None:
        """Notes that the call is run again: it stays open, for the choices that stand, and nothing happened in it."""
        del self._stack[self._stack.index(frame[0]) + 1 :]
        self._counts.subtract(self._log[frame[1] :])
        del self._log[frame[1] :]

    def note_call(self, path: str) -> int:
        """Notes a call of a layer, and says how many there were before."""
        self._log.append(path)
        self._counts[path] += 1
        return self._counts[path] - 1

    def allows(self, path: str, option: Option) -> bool:
        """Whether an option was neither found to be wrong nor taken by another layer."""
        if path in self._pinned:
            return option.name == self._pinned[path].option.name
        if option.name in self._rejected.get(path, ()):
            return False
        return not any(part.overlaps(other) for part in option.parts for other in self._taken.get(part.key, ()))

    def is_made_again(self, path: str) -> bool:
        """Whether an option of this layer was found to be wrong, so that it is chosen once more."""
        return path in self._rejected

    def has_given_up(self, path: str) -> bool:
        """Whether every open choice was tried for this layer, and it agreed with none."""
        return path in self._given_up

    def choose(self, path: str, option: Option, error: float | None, others: Iterable[Option]) -> Choice:
        """Writes a choice down; it is open while something else would do as well."""
        pinned = self._pinned.get(path)
        rest = pinned.others if pinned else tuple(others)
        closed = pinned is not None or not rest
        made = Choice(path=path, option=option, error=error, frames=tuple(self._stack), others=rest, closed=closed)
        self._release(path)
        self.choices[path] = made
        for part in option.parts:
            self._taken.setdefault(part.key, []).append(part)
        return made

    def _release(self, path: str) -> None:
        for part in self.choices[path].option.parts if path in self.choices else ():
            self._taken[part.key].remove(part)

    def passed(self, path: str) -> None:
        """A layer agrees: if it was the one that was searched for, the search is over."""
        if self._failing and self._failing.path == path:
            self._failing = None
            self._rejected.clear()

    def go_back(self, path: str) -> None:
        """Goes back to the last choice that is open; returns if there is none to be made again.

        Raises:
            Backtrack: To the call in which that choice is made again.
        """
        self._rejected.pop(path, None)
        target = next((choice for choice in reversed(self.choices.values()) if not choice.closed), None)
        if self._failing is None:
            if target is None:
                return
            before = {choice.path: choice for choice in self.choices.values() if not choice.closed}
            self._failing = _Failing(path, before)
        self._failing.tries += 1
        if target is None or self._failing.tries > MOST_TRIES:
            raise Backtrack(self._undo(self._give_up(self._failing)))
        later = list(self.choices)
        for other in later[later.index(target.path) + 1 :]:
            self._rejected.pop(other, None)
        self._rejected.setdefault(target.path, set()).add(target.option.name)
        raise Backtrack(self._undo(target))

    def _give_up(self, failing: _Failing) -> Choice:
        """Nothing helped: all is as it was before the search, and stays so. The first choice that is made again."""
        self._failing = None
        self._rejected.clear()
        self._pinned |= failing.before
        self._given_up.add(failing.path)
        return next(choice for choice in self.choices.values() if choice.path in failing.before)

    def _undo(self, target: Choice) -> int:
        """Forgets a choice and all after it; the innermost call that was open then and still is."""
        paths = list(self.choices)
        for path in paths[paths.index(target.path) :]:
            self._release(path)
            del self.choices[path]
        return next(frame for frame in reversed(target.frames) if frame in self._stack)
