"""The probe: the models themselves decide which layer is which.

PyTorch has run once under the probe's weights (`TorchRun`). Now Keras runs, and every layer asks, as it is called, what
it is to be filled with: its input is right already, so what torch returned is what it must return. What shares an input
and a shape (query, key and value) is chosen by names and order, and the first layer after it whose input is wrong leads
back to the next choice. Where nothing agrees, the best choice stands, unconfirmed, and the layer returns what torch
returned, so that everything after it sees the right input.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from keras3conv.model.views import LayerView, TensorRef
from keras3conv.numerics.fingerprint import EXACT, Print, factor_between, relative_error
from keras3conv.numerics.probe_values import other_values
from keras3conv.planner.evidence import names
from keras3conv.planner.evidence.names import Ranks
from keras3conv.planner.probe.candidates import Options
from keras3conv.planner.probe.nearness import (
    CLOSE_PRINT,
    OTHER,
    SAME,
    alike_words,
    differs,
    exchanged,
    is_outside,
    known,
    level_of,
    nearness,
    resemblance,
)
from keras3conv.planner.probe.option import Option
from keras3conv.planner.probe.record import NEAR, TorchRun
from keras3conv.planner.probe.stacks import Stack
from keras3conv.planner.probe.trail import Choice, Trail
from keras3conv.rules.constants import is_constant
from keras3conv.transforms import Array

_MOST_GUESSES = 12
"""Of the options whose input does not agree, this many are tried."""

_TELLS = 0.03
"""An output that differs by less than this part of what it would by with other weights tells that these are right."""

_BACKWARDS = 1 << 40
"""A layer that runs before the last one that was found is farther away than any after it."""

OUTPUTS = "the outputs"
"""Stands for a layer where the outputs of the whole model are compared."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a Keras layer returned.

    Attributes:
        returned: The value itself, for the layers after it.
        array: Its first array; None where it returned none.
        before: What went into the layer's own activation, where it has one.
        replace: Makes the value to return in its place of an array; the flag says that it is one before the activation.
    """

    returned: Any
    array: Array | None
    before: Array | None = None
    replace: Callable[[Array, bool], Any]


Run = Callable[[dict[str, Array]], Outcome]
"""Writes values into the variables of a layer, by path, and calls the layer."""


@dataclass(frozen=True)
class _Measured:
    """How far a layer's output is from what torch returned, and that, in the layer's layout."""

    error: float
    expected: Array | None = None
    before: bool = False
    factor: float = 1.0
    limit: float = EXACT

    @property
    def agrees(self) -> bool:
        """Whether the two are the same."""
        return self.error <= self.limit


@dataclass
class Search:
    """One run of the Keras model under the probe.

    Attributes:
        options: Finds what a layer may be filled with.
        hinted: The torch path that the user gave for a Keras path.
        stacks: The torch layers that Keras has as several in a row, by each of these.
        trail: What was chosen, in the order of the calls.
        ranks: Which of several alike the layers of torch and of Keras are, by the numbers in their names.
        ended: Whether every output of the model is a value that torch had too, and under this name.
    """

    options: Options
    hinted: Mapping[str, str] = field(default_factory=dict)
    stacks: Mapping[str, Stack] = field(default_factory=dict)
    trail: Trail = field(default_factory=Trail)
    ranks: tuple[Ranks, Ranks] = (Ranks(), Ranks())
    ended: bool = False
    _cursor: int = -1

    @property
    def run(self) -> TorchRun:
        """What is known of the torch side."""
        return self.options.run

    @property
    def choices(self) -> dict[str, Choice]:
        """What was chosen."""
        return self.trail.choices

    @property
    def forced(self) -> bool:
        """Whether a layer returned what torch returned in the place of its own output."""
        return any(choice.forced for choice in self.choices.values())

    def can_fill(self, keras: LayerView) -> bool:
        """Whether a layer that is made of layers is one of torch's as a whole."""
        if keras.path in self.stacks:
            return True
        if keras.path in self.choices:
            return self.choices[keras.path].option.kind == "layer"
        return any(self.trail.allows(keras.path, option) for option in self.options.layers(keras))

    def fill(self, keras: LayerView, given: tuple[Print, ...], run: Run) -> Any:
        """Fills a layer as it is called, and returns what it shall return.

        Raises:
            Backtrack: An earlier choice has to be made again.
        """
        place = self.trail.note_call(keras.path)
        if stack := self.stacks.get(keras.path):
            outcome = run(stack.values(self.run, keras))
            stack.compare(self.run, keras, outcome.array, place)
            return outcome.returned
        if chosen := self.choices.get(keras.path):
            return self._again(chosen, run, place)
        ranked = self._ranked(keras, given[0] if given else None)
        if not ranked:
            if self.trail.is_made_again(keras.path):
                self.trail.go_back(keras.path)
            return run(self._values_of_each(keras, keras.tensors, given[0] if given else None)).returned
        if ranked[0][1].kind == "parameter":  # no layer of torch's returned what this one does
            outcome = run(ranked[0][1].values(self.run.weights))
            self._choose(keras.path, ranked[0][1], None, [option for _, option in ranked[1:]])
            return outcome.returned
        return self._first_that_agrees(keras, ranked, run, given)

    def fill_own(self, keras: LayerView, own: set[str], write: Callable[[dict[str, Array]], None]) -> None:
        """Fills the variables that a layer owns beside the layers in it: a class token, a table of positions.

        Raises:
            Backtrack: An earlier choice has to be made again.
        """
        tensors = [tensor for tensor in keras.tensors if tensor.path in own]
        write(self._values_of_each(keras, tensors, None))

    def _values_of_each(self, keras: LayerView, tensors: Iterable[TensorRef], given: Print | None) -> dict[str, Array]:
        """Chooses for every variable alone; what comes after them tells whether that is right.

        What was chosen before is among the values: going back may have led past the place where they are written.
        """
        made: dict[str, Array] = {}
        for tensor in tensors:
            if not tensor.is_seed and not is_constant(tensor) and tensor.path not in self.choices:
                if options := self._loose(keras, tensor, given):
                    self._choose(tensor.path, options[0], None, options[1:])
                elif self.trail.is_made_again(tensor.path):
                    self.trail.go_back(tensor.path)
            if chosen := self.choices.get(tensor.path):
                made |= chosen.option.values(self.run.weights)
        return made

    def _loose(self, keras: LayerView, tensor: TensorRef, given: Print | None) -> list[Option]:
        """What a variable may be that belongs to no layer of torch's, best first.

        Where torch has some in a layer that was given the same, or around the last that was found, it is one of these.
        """
        found = list(self.options.parameters(keras, tensor, self.options.loose))
        found += self.options.pieces(keras, tensor, alone=not found)
        ranked = sorted(
            (
                (*nearness(self.run, self.trail, option, given), *resemblance(option.parts[0].path, tensor.path)),
                place,
                option,
            )
            for place, option in enumerate(found)
        )
        near = [entry for entry in ranked if entry[0][:2] == ranked[0][0][:2]]
        return [option for *_, option in near if self.trail.allows(tensor.path, option)]

    def finish(self, outputs: Mapping[str, Array]) -> None:
        """Compares what the model returned, by name, with torch's outputs, or with what torch's layers were given.

        Raises:
            Backtrack: An earlier choice has to be made again.
        """
        found = [known(self.run, array) for array in outputs.values()]
        self.ended = None not in found and not exchanged(self.run, outputs)
        if self.ended:
            self.trail.passed(OUTPUTS)
            for depends in found:
                self._settle(OUTPUTS, depends or 0)
        elif not self.trail.has_given_up(OUTPUTS) and not self.forced:
            self.trail.go_back(OUTPUTS)

    def confirm(self, outputs: Mapping[str, Array]) -> None:
        """Says of a run in which nothing was forced whether its outputs are torch's."""
        found = [known(self.run, array) for array in outputs.values()]
        self.ended = None not in found and not exchanged(self.run, outputs)

    def _first_that_agrees(
        self, keras: LayerView, ranked: list[tuple[int, Option]], run: Run, given: tuple[Print, ...]
    ) -> Any:
        near: list[tuple[float, int, Option]] = []
        unlike = True
        for place, (level, option) in enumerate(ranked):
            if level == OTHER and place >= _MOST_GUESSES:
                break
            outcome = run(option.values(self.run.weights))
            measured = self._measure(option, outcome)
            if measured.agrees:
                alike = [other for at, other in ranked if at == level < OTHER and differs(other, option)]
                self._accept(keras, option, measured, alike, given)
                return outcome.returned
            if measured.error <= NEAR:
                near.append((measured.error, level, option))
            unlike = unlike and option.kind == "tensors" and not self._is_comparable(option, outcome)
        if unlike and all(self._loose(keras, tensor, given[0]) for tensor in keras.tensors if not tensor.is_seed):
            return run(self._values_of_each(keras, keras.tensors, given[0])).returned
        return self._near(keras, near, run, given) if near else self._stuck(keras, ranked, run)

    def _ranked(self, keras: LayerView, given: Print | None) -> list[tuple[int, Option]]:
        """The options that are left, with how well their input agrees, best first."""
        found = [
            (level_of(self.run, option, given), option) for option in self._usable(keras, self.options.layers(keras))
        ]
        if not any(level == SAME for level, _ in found):
            found += [(SAME, option) for option in self._usable(keras, self.options.parts(keras, given))]
            found += [(SAME, option) for option in self._usable(keras, self.options.joined(keras, given))]
            found += [
                (level_of(self.run, option, given), option)
                for option in self._usable(keras, self.options.tensors(keras))
            ]
        if hint := self.hinted.get(keras.path):
            found = [entry for entry in found if entry[1].torch == hint]
        wanted = [tensor for tensor in keras.tensors if not tensor.is_seed and not is_constant(tensor)]
        if not found and len(wanted) == 1:
            options = self.options.parameters(keras, wanted[0], self.options.loose)
            found = [(OTHER, option) for option in self._usable(keras, options)]
        return sorted(found, key=lambda entry: self._rank(keras, *entry))

    def _usable(self, keras: LayerView, options: Iterable[Option]) -> Iterator[Option]:
        return (option for option in options if self.trail.allows(keras.path, option))

    def _rank(self, keras: LayerView, level: int, option: Option) -> tuple[float, ...]:
        torch = option.layers[0].path
        meanings = {names.meaning(torch), names.meaning(keras.path)} - {""}
        calls = self.run.of(torch)
        distance = calls[0].place - self._cursor if calls else _BACKWARDS
        order = distance if distance > 0 else _BACKWARDS - distance
        alike = sum(alike_words(layer.path, keras.path) for layer in option.layers) / len(option.layers)
        elsewhere = option.kind == "parameter" and is_outside(self.trail, option.owner)
        other = level < OTHER and self.ranks[0].apart(torch, self.ranks[1], keras.path)
        alike = alike if level < OTHER else 0
        return (level, len(meanings) > 1, elsewhere, -alike, other, order, option.parts[0].start)

    def _measure(self, option: Option, outcome: Outcome) -> _Measured:
        best = _Measured(float("inf"))
        calls = self.run.of(option.layers[0].path)
        for array, before in ((outcome.before, True), (outcome.array, False)):
            for place, call in enumerate(calls if array is not None else ()):
                assert array is not None
                for expected in option.expected(self.run, array.shape, place):
                    error = relative_error(array, expected)
                    if best.expected is None or error < best.error:
                        best = _Measured(error, expected, before, limit=call.limit)
                    if error <= call.limit:
                        return _Measured(error, expected, before, limit=call.limit)
                    if factor := factor_between(array, expected, call.limit):
                        return _Measured(0.0, expected, before, factor)
        return best

    def _is_comparable(self, option: Option, outcome: Outcome) -> bool:
        """Whether a layer returned as many values as torch's; one may return what the other still adds up."""
        calls = self.run.of(option.layers[0].path)
        sizes = {call.outputs[0].size for call in calls if call.outputs}
        return outcome.array is not None and outcome.array.size in sizes

    def _accept(
        self, keras: LayerView, option: Option, measured: _Measured, others: Iterable[Option], given: tuple[Print, ...]
    ) -> Choice:
        made = self._choose(keras.path, option, measured.error, others)
        made.factor, made.limit = measured.factor, measured.limit
        made.input_agrees = level_of(self.run, option, given[0] if given else None) == SAME
        self.trail.passed(keras.path)
        for call in self.run.of(option.layers[0].path):
            if given and any(entry.agrees(given[0], CLOSE_PRINT) for entry in call.prints):
                self._settle(keras.path, call.depends)
        return made

    def _choose(self, path: str, option: Option, error: float | None, others: Iterable[Option]) -> Choice:
        if calls := self.run.of(option.layers[0].path):
            self._cursor = calls[0].place
        return self.trail.choose(path, option, error, others)

    def _settle(self, path: str, depends: int) -> None:
        """A value agrees that depends on these tensors: what was open about them is decided.

        Two layers that were given the same are told apart where a value depends on both. What depends on one of them
        only would agree if they were exchanged, together with all that comes after each. Behind a layer that returned
        what torch returned, because no option agreed, nothing can be told.
        """
        for choice in self.choices.values():
            depends &= ~choice.hides
        for choice in self.choices.values():
            if choice.settled_by or not (choice.others or choice.option.kind == "parameter"):
                continue
            mine = self._bits(choice.option)
            settled = bool(mine & depends)
            if choice.option.kind == "part":
                settled = settled and not any(self.trail.allows(choice.path, other) for other in choice.others)
            elif choice.option.kind not in ("parameter", "joined"):
                settled = settled and any(self._bits(other) & depends & ~mine for other in choice.others)
            if settled:
                choice.closed, choice.settled_by = True, path

    def _bits(self, option: Option) -> int:
        found = 0
        for part in option.parts:
            found |= self.run.bits.get(part.path, 0)
        return found

    def _again(self, choice: Choice, run: Run, place: int) -> Any:
        """A layer that was filled before, in this run or in one that was begun again."""
        outcome = run({})
        if not choice.forced:
            return outcome.returned
        for array, before in ((outcome.before, True), (outcome.array, False)):
            expected = None if array is None else next(choice.option.expected(self.run, array.shape, place), None)
            if expected is not None:
                return outcome.replace(expected, before)
        return outcome.returned

    def _near(
        self, keras: LayerView, near: Sequence[tuple[float, int, Option]], run: Run, given: tuple[Print, ...]
    ) -> Any:
        """The same weights, in layers that differ in a constant: what torch returned goes on.

        Where other weights would be hardly farther away (most of the output is what was given), nothing is told.
        """
        input_agrees = any(level == SAME for _, level, _ in near) and not self.trail.is_made_again(keras.path)
        if not input_agrees and not self.trail.has_given_up(keras.path):
            self.trail.go_back(keras.path)
        best = min(error for error, _, _ in near)
        alike = [(level, option) for error, level, option in near if error <= 10 * best]  # in the order of their rank
        chosen = alike[0][1]
        by_others = self._measure(chosen, run(other_values(chosen.values(self.run.weights)))).error
        if best > _TELLS * by_others:
            return self._stuck(keras, alike, run)
        outcome = run(chosen.values(self.run.weights))
        measured = self._measure(chosen, outcome)
        others = [other for _, other in alike if differs(other, chosen)]
        self._accept(keras, chosen, measured, others, given).forced = True
        assert measured.expected is not None
        return outcome.replace(measured.expected, measured.before)

    def _stuck(self, keras: LayerView, ranked: list[tuple[int, Option]], run: Run) -> Any:
        """No option agrees: an earlier choice is made again, or the best option stands unconfirmed.

        Where the input is right, no earlier choice can be wrong.
        """
        input_agrees = any(level == SAME for level, _ in ranked) and not self.trail.is_made_again(keras.path)
        if not input_agrees and not self.trail.has_given_up(keras.path):
            self.trail.go_back(keras.path)
        option = ranked[0][1]
        outcome = run(option.values(self.run.weights))
        measured = self._measure(option, outcome)
        made = self._choose(keras.path, option, measured.error, [other for _, other in ranked[1:5]])
        made.closed = made.forced = made.doubtful = True
        made.input_agrees = input_agrees
        for call in self.run.of(option.layers[0].path):
            made.hides |= call.depends
        if measured.expected is None:
            return outcome.returned
        return outcome.replace(measured.expected, measured.before)
