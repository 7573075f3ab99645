"""Record the torch weights chosen for each Keras layer, and backtrack to the last choice that has alternatives."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from keras3conv.planner.probe.option import Candidate, TensorSlice
from keras3conv.planner.probe.outcome import (
    Ambiguous,
    Choice,
    Comparison,
    Compensated,
    Confirmed,
    Forced,
    Outcome,
    judge,
)
from keras3conv.planner.probe.record import TorchRun

MOST_TRIES = 30
"""The maximum number of times that the probe backtracks because of one disagreeing layer; then it gives up."""


class Abandoned(BaseException):  # not an Exception: Keras would catch it and raise a different one
    """Exception that aborts a run of the Keras model, because a layer that agreed in an earlier run differs now."""


class Backtrack(BaseException):  # not an Exception: Keras would catch it and raise a different one
    """Exception that returns to the call of a Keras container in which an earlier choice was made, to repeat the call.

    Args:
        call: The number of the call to repeat.
    """

    def __init__(self, call: int) -> None:
        super().__init__()
        self.call = call


@dataclass(frozen=True)
class OpenCall:
    """A running call of a Keras container (a layer that contains layers).

    Attributes:
        number: Identifies the call.
        calls_before: The number of layer calls before it.
    """

    number: int
    calls_before: int


@dataclass
class _Failure:
    """A Keras layer that does not agree with torch, for which the search backtracks.

    Attributes:
        path: The path of the layer.
        open_choices: The choices that had alternatives when the disagreement was found, by path.
        tries: The number of times that the search has backtracked for this layer.
    """

    path: str
    open_choices: dict[str, Choice]
    tries: int = 0


@dataclass
class Trail:
    """The choices of torch weights for the Keras layers in one run, in call order.

    Attributes:
        choices: The choice for each Keras layer or variable, by its path.
        called: The paths of the called layers, in call order.
    """

    choices: dict[str, Choice] = field(default_factory=dict)
    _open_calls: list[int] = field(default_factory=list)
    called: list[str] = field(default_factory=list)
    _call_counts: Counter[str] = field(default_factory=Counter)
    _last_number: int = 0
    _rejected: dict[str, set[tuple[object, ...]]] = field(default_factory=dict)
    _pinned: dict[str, Choice] = field(default_factory=dict)
    _given_up: set[str] = field(default_factory=set)
    _failure: _Failure | None = None
    _taken: dict[str, list[TensorSlice]] = field(default_factory=dict)
    _undecided: dict[str, None] = field(default_factory=dict)

    def open_call(self) -> OpenCall:
        """Record that a call of a Keras container (a layer that contains layers) begins, and return the record."""
        self._last_number += 1
        self._open_calls.append(self._last_number)
        return OpenCall(self._last_number, len(self.called))

    def close_call(self, call: OpenCall) -> None:
        """Record that a call of a Keras container has ended.

        Args:
            call: The record of the call, which `open_call` returned.
        """
        del self._open_calls[self._open_calls.index(call.number) :]

    def restart_call(self, call: OpenCall) -> None:
        """Record that a call of a container is repeated: the call stays open, its layer calls so far are forgotten."""
        del self._open_calls[self._open_calls.index(call.number) + 1 :]
        self._call_counts.subtract(self.called[call.calls_before :])
        del self.called[call.calls_before :]

    def note_call(self, path: str) -> int:
        """Record a call of a layer; return the number of its calls before this one."""
        self.called.append(path)
        self._call_counts[path] += 1
        return self._call_counts[path] - 1

    def allows(self, path: str, candidate: Candidate) -> bool:
        """Return whether a layer may get a candidate: it was not rejected, and no other choice uses its tensors.

        If the choice for the layer is final, because the search gave up, only the chosen candidate is allowed.

        Args:
            path: The path of the Keras layer or variable.
            candidate: The candidate.
        """
        if path in self._pinned:
            return candidate.key == self._pinned[path].candidate.key
        if candidate.key in self._rejected.get(path, ()):
            return False
        return not any(mine.overlaps(taken) for mine in candidate.slices for taken in self._taken.get(mine.path, ()))

    def has_rejections(self, path: str) -> bool:
        """Return whether a candidate of this layer was rejected before, so that another candidate must be chosen."""
        return path in self._rejected

    def has_given_up(self, path: str) -> bool:
        """Return whether the search gave up on this layer: it agrees with torch for no tried combination of choices."""
        return path in self._given_up

    def choose(
        self, path: str, candidate: Candidate, comparison: Comparison | None, alternatives: Iterable[Candidate]
    ) -> None:
        """Record the torch weights that fit a Keras layer or variable as the choice for it.

        Args:
            path: The path of the Keras layer or variable.
            candidate: The torch weights.
            comparison: The comparison of the layer's output with torch; None for a single variable, which has no
                output.
            alternatives: The other candidates that fit as well.
        """
        self._record(path, candidate, judge(comparison, tuple(alternatives)))

    def force(
        self,
        path: str,
        candidate: Candidate,
        comparison: Comparison,
        alternatives: Iterable[Candidate],
        hidden_tensors: int,
    ) -> None:
        """Record the best torch weights for a Keras layer as a forced choice: none reproduced the recorded output.

        Args:
            path: The path of the Keras layer.
            candidate: The best torch weights.
            comparison: The comparison of the layer's output with torch.
            alternatives: The candidates that ranked next.
            hidden_tensors: The torch tensors that the layer's input depends on, as an integer with one bit per tensor.
        """
        others = tuple(alternatives)
        self._record(path, candidate, Forced(comparison=comparison, alternatives=others, hidden_tensors=hidden_tensors))

    def _record(self, path: str, candidate: Candidate, outcome: Outcome) -> None:
        self._release(path)
        choice = Choice(path=path, candidate=candidate, outcome=outcome, open_calls=tuple(self._open_calls))
        if path in self._pinned:  # the alternatives are final, too
            choice = choice.with_alternatives(self._pinned[path].alternatives)
        self.choices[path] = choice
        if not isinstance(choice.outcome, Confirmed | Compensated):
            self._undecided[path] = None
        for tensor_slice in candidate.slices:
            self._taken.setdefault(tensor_slice.path, []).append(tensor_slice)

    def _release(self, path: str) -> None:
        for tensor_slice in self.choices[path].candidate.slices if path in self.choices else ():
            self._taken[tensor_slice.path].remove(tensor_slice)
        self._undecided.pop(path, None)

    def confirm(self, path: str, dependencies: int, run: TorchRun) -> None:
        """Confirm the ambiguous choices that are proven by a layer whose input or output equals torch's.

        Two layers with the same input may be swapped. Only a value that depends on both layers excludes this: a value
        that depends on one of them would also agree if the two layers were swapped together with all layers after them.
        If a layer returned the recorded output, later values do not depend on the choices before this layer.

        Args:
            path: The layer whose input or output agrees with torch.
            dependencies: The torch tensors that this input or output depends on, as an integer with one bit per tensor.
            run: The recorded torch run.
        """
        undecided = [self.choices[name] for name in self._undecided]
        for choice in undecided:
            if isinstance(choice.outcome, Forced):
                dependencies &= ~choice.outcome.hidden_tensors
        for choice in undecided:
            if isinstance(choice.outcome, Ambiguous) and self._is_proven(choice, dependencies, run):
                self.choices[choice.path] = choice.confirm(path)
                del self._undecided[choice.path]

    def compensate(self, path: str) -> None:
        """Replace the outcome of a forced choice by `Compensated`: the outputs of the whole models prove its weights.

        Args:
            path: The path of the Keras layer, whose choice has an output that was compared.
        """
        choice = self.choices[path]
        if comparison := choice.outcome.comparison:
            self.choices[path] = replace(choice, outcome=Compensated(comparison=comparison))
            del self._undecided[path]

    def _is_proven(self, choice: Choice, dependencies: int, run: TorchRun) -> bool:
        own = choice.candidate.bits(run)
        if not own & dependencies:
            return False
        if choice.candidate.kind == "slice":
            return not any(self.allows(choice.path, other) for other in choice.alternatives)
        if choice.candidate.kind in ("parameter", "joined"):
            return True
        return any(other.bits(run) & dependencies & ~own for other in choice.alternatives)

    def note_agreement(self, path: str) -> None:
        """Record that a layer agrees with torch; if the search backtracked for this layer, the backtracking ends."""
        if self._failure and self._failure.path == path:
            self._failure = None
            self._rejected.clear()

    def backtrack(self, path: str) -> None:
        """Reject the last choice that may still be changed, and repeat the call of the container in which it was made.

        Do nothing if no choice could be changed when the layer first disagreed with torch. If every choice that may be
        changed was rejected, or `MOST_TRIES` is reached, give up on the layer: restore the first choices, and repeat
        the call with them.

        Args:
            path: The path of the layer that does not agree with torch.

        Raises:
            Backtrack: The choices were changed; the exception has the number of the call to repeat.
        """
        self._rejected.pop(path, None)
        target = next((choice for choice in reversed(self.choices.values()) if self._is_open(choice)), None)
        if self._failure is None:
            if target is None:
                return
            open_choices = {choice.path: choice for choice in self.choices.values() if self._is_open(choice)}
            self._failure = _Failure(path, open_choices)
        self._failure.tries += 1
        if target is None or self._failure.tries > MOST_TRIES:
            raise Backtrack(self._forget_from(self._give_up(self._failure)))
        later = list(self.choices)
        for other in later[later.index(target.path) + 1 :]:
            self._rejected.pop(other, None)
        self._rejected.setdefault(target.path, set()).add(target.candidate.key)
        raise Backtrack(self._forget_from(target))

    def _is_open(self, choice: Choice) -> bool:
        """Return whether the search may still replace a choice: it is ambiguous, with alternatives, and not final."""
        return isinstance(choice.outcome, Ambiguous) and bool(choice.alternatives) and choice.path not in self._pinned

    def _give_up(self, failure: _Failure) -> Choice:
        """Give up on a layer: make those choices final that could still change when it first disagreed with torch.

        Args:
            failure: The layer that does not agree, with these choices.

        Returns:
            The first of these choices, from which the run is repeated.
        """
        self._failure = None
        self._rejected.clear()
        self._pinned |= failure.open_choices
        self._given_up.add(failure.path)
        kept = [choice for choice in self.choices.values() if choice.path in failure.open_choices]
        return (kept or list(failure.open_choices.values()))[0]

    def _forget_from(self, first: Choice) -> int:
        """Remove a choice of torch weights and all later choices.

        Returns:
            The number of the innermost call that was running when the choice was made and is still running.
        """
        paths = list(self.choices)
        for path in paths[paths.index(first.path) :] if first.path in self.choices else ():
            self._release(path)
            del self.choices[path]
        return next(call for call in reversed(first.open_calls) if call in self._open_calls)
