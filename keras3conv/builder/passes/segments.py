"""What repeats itself in a program: statements that stand together, have one input and one output, and come again.

Two places repeat each other if they call the same classes with the same expressions, wired in the same way. What their
modules are made with may differ: that becomes an argument. Or they share all of their modules: then it is one module
that is called several times.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from string import Formatter

from keras3conv.builder.program.program import Program, Step
from keras3conv.model.graph import refs

LONGEST = 120
"""Statements in a block, at most; a longer one would not be read more easily than the whole."""

SHORTEST = 3

MOST_INPUTS = 3
"""What a block is given, at most: what flows through the model, and what all parts of it are given, as a mask."""

Token = tuple[str, str, int, int, bool]
"""A class, an expression, the numbers of inputs and outputs, whether an input is overwritten."""


@dataclass(frozen=True, kw_only=True)
class Segment:
    """Statements of a program that stand together.

    Attributes:
        start: The place of the first.
        stop: The place after the last.
        given: The values that they are given, in the order in which they use them.
    """

    start: int
    stop: int
    given: tuple[str, ...]

    @property
    def length(self) -> int:
        """How many statements it has."""
        return self.stop - self.start


def repeated(program: Program) -> tuple[Segment, ...]:
    """The repetition that saves the reader most; empty if none saves enough.

    Runs of equal statements are found by a hash first; only those that come again are looked at closely.
    """
    tokens = [_token(program, step) for step in program.steps]
    hashes = _Hashes(tokens)
    groups: dict[tuple[int, int], list[Segment]] = {}
    for segment in _segments(program, tokens):
        groups.setdefault((segment.length, hashes.of(segment)), []).append(segment)
    best: tuple[float, tuple[Segment, ...]] = (0.0, ())
    several = {key: found for key, found in groups.items() if len(found) > 1}
    most = {key: _most(program, found) for key, found in several.items()}
    for group in sorted(several, key=lambda one: most[one], reverse=True):
        if most[group] <= best[0]:
            break
        for alike in _alike(program, tokens, several[group]):
            chosen = _apart(alike)
            shared = _is_shared(program, chosen[0])
            if shared and not _has_every_use(program, chosen):
                continue
            saved = (len(chosen) - 1) * (chosen[0].length - 1) - _cost(shared=shared)
            bonus = _coherence(program, chosen) + _joins(program, chosen[0]) + 0.5 * _begins(program, chosen[0])
            if len(chosen) > 1 and saved * (1 + bonus) > best[0]:
                best = saved * (1 + bonus), chosen
    return best[1]


def _most(program: Program, found: Sequence[Segment]) -> float:
    """More than any repetition among these segments can save."""
    again = any(_uses(program)[name] > 1 for name in program.modules)
    shared = again and any(_is_shared(program, segment) for segment in found)
    return ((len(found) - 1) * (found[0].length - 1) - _cost(shared=shared)) * 3.5


def _cost(*, shared: bool) -> float:
    """What a class costs the reader, in statements; of a module that is called again less, for it is one thing."""
    return 1.0 if shared else 6.0


def _alike(program: Program, tokens: Sequence[Token | None], found: Sequence[Segment]) -> Iterable[list[Segment]]:
    """The segments that are whole, grouped by what they are."""
    groups: dict[tuple[object, ...], list[Segment]] = {}
    for segment in found:
        whole, shared = _is_whole(program, segment.start, segment.stop), _is_shared(program, segment)
        key = _key(program, tokens, segment) if whole or shared else None
        if key is not None:
            groups.setdefault((*key, *(_owned(program, segment) if shared else ())), []).append(segment)
    return groups.values()


def _owned(program: Program, segment: Segment) -> tuple[str, ...]:
    """The modules and the weights that stand in a segment, as often as they do."""
    steps = program.steps[segment.start : segment.stop]
    names = (name for step in steps for name in (step.module, *step.inputs))
    return tuple(name for name in names if name in program.modules or name in program.weights)


def _is_shared(program: Program, segment: Segment) -> bool:
    """Whether all that stands in a segment stands elsewhere, too, and two layers of Keras or more are in it."""
    owned, uses = _owned(program, segment), _uses(program)
    layers = {name for name in owned if name in program.weights or program.modules[name].keras}
    return len(layers) >= 2 and all(uses[name] > owned.count(name) for name in owned)


def _has_every_use(program: Program, segments: Sequence[Segment]) -> bool:
    """Whether the modules and the weights of the segments are used nowhere else."""
    owned, uses = _owned(program, segments[0]), _uses(program)
    return all(uses[name] == owned.count(name) * len(segments) for name in owned)


class _Hashes:
    """The hash of any run of tokens, at once."""

    _BASE, _MODULUS = 1_000_003, (1 << 61) - 1

    def __init__(self, tokens: Sequence[Token | None]) -> None:
        numbers: dict[Token | None, int] = {}
        self._sums, self._powers = [0], [1]
        for token in tokens:
            number = numbers.setdefault(token, len(numbers) + 1)
            self._sums.append((self._sums[-1] * self._BASE + number) % self._MODULUS)
            self._powers.append(self._powers[-1] * self._BASE % self._MODULUS)

    def of(self, segment: Segment) -> int:
        """The hash of the tokens of a segment."""
        before = self._sums[segment.start] * self._powers[segment.length]
        return (self._sums[segment.stop] - before) % self._MODULUS


def _segments(program: Program, tokens: Sequence[Token | None]) -> Iterator[Segment]:
    """Every run of statements with few inputs, of which nothing but the last result is used after it."""
    maker = {output: place for place, step in enumerate(program.steps) for output in step.outputs}
    last_use = {name: place for place, step in enumerate(program.steps) for name in step.inputs}
    last_use |= {ref.name: len(program.steps) for ref in refs(program.outputs)}
    for start in range(len(program.steps)):
        given: dict[str, None] = {}
        needed = -1  # until where anything but the last result is needed
        for stop in range(start + 1, min(start + LONGEST, len(program.steps)) + 1):
            step = program.steps[stop - 1]
            given |= {name: None for name in step.inputs if maker.get(name, -1) < start and name not in program.weights}
            if len(given) > MOST_INPUTS or tokens[stop - 1] is None:
                break
            latest = max((last_use.get(name, -1) for name in step.outputs), default=-1)
            if given and stop - start >= SHORTEST and len(step.outputs) == 1 and needed < stop <= latest:
                yield Segment(start=start, stop=stop, given=tuple(given))
            needed = max(needed, latest)


def _is_whole(program: Program, start: int, stop: int) -> bool:
    """Whether the modules and weights in it are used nowhere else, and it has two layers or more."""
    steps = program.steps[start:stop]
    modules = [step.module for step in steps if step.module]
    own = {name for step in steps for name in step.inputs if name in program.weights}
    uses = _uses(program)
    alone = all(uses[name] == modules.count(name) for name in modules)
    alone = alone and all(uses[name] == sum(step.inputs.count(name) for step in steps) for name in own)
    return alone and len(modules) + len(own) >= 2


def _uses(program: Program) -> Mapping[str, int]:
    cached: dict[str, int] | None = program.__dict__.get("_uses")
    if cached is None:
        cached = {}
        for step in program.steps:
            for name in (step.module, *step.inputs):
                cached[name] = cached.get(name, 0) + 1
        for ref in refs(program.outputs):
            cached[ref.name] = cached.get(ref.name, 0) + 1
        object.__setattr__(program, "_uses", cached)
    return cached


def _token(program: Program, step: Step) -> Token | None:
    """What a statement is, without its numbers: equal for statements that repeat each other; None for a block."""
    kind = program.modules[step.module].spec.kind if step.module else ""
    if kind.startswith("."):  # a block that was found before
        return None
    return kind, step.template, len(step.inputs), len(step.outputs), step.overwrites


def _key(program: Program, tokens: Sequence[Token | None], segment: Segment) -> tuple[object, ...] | None:
    """The tokens with the wiring inside; None where a free size is used that the input does not tell."""
    names: dict[str, int] = {name: -1 - place for place, name in enumerate(segment.given)}
    modules: dict[str, int] = {}
    key: list[object] = []
    for place in range(segment.start, segment.stop):
        step = program.steps[place]
        wiring = tuple(names.get(name, "weight") for name in step.inputs)
        key.append((tokens[place], wiring, modules.setdefault(step.module, len(modules))))
        names |= dict.fromkeys(step.outputs, place - segment.start)
    told = tuple(size_from(program, segment.given, symbol) for symbol in sizes_used(program, segment))
    orders = tuple(program.values[name].order for name in segment.given)
    return None if None in told else (*key, told, orders)


def sizes_used(program: Program, segment: Segment) -> tuple[str, ...]:
    """The free sizes that stand in the expressions of a segment."""
    return symbols_in(program, program.steps[segment.start : segment.stop])


def symbols_in(program: Program, steps: Iterable[Step]) -> tuple[str, ...]:
    """The free sizes that stand in the expressions of statements."""
    fields = {field for step in steps for _, field, _, _ in Formatter().parse(step.template) if field}
    return tuple(symbol for symbol in program.sizes if symbol in fields)


def size_from(program: Program, given: Sequence[str], symbol: str) -> tuple[int, int] | None:
    """Which of the values that a segment is given tells a free size, and at which place."""
    for number, name in enumerate(given):
        for place, size in enumerate(program.values[name].torch_shape):
            if str(size) == symbol:
                return number, place
    return None


def _apart(segments: Sequence[Segment]) -> tuple[Segment, ...]:
    """The segments from the first on that do not overlap."""
    chosen: list[Segment] = []
    for segment in sorted(segments, key=lambda one: one.start):
        if not chosen or segment.start >= chosen[-1].stop:
            chosen.append(segment)
    return tuple(chosen)


def _coherence(program: Program, segments: Sequence[Segment]) -> float:
    """Which share of the segments has names that begin alike, as those of no other segment do."""
    prefixes = [prefix_of([step.path for step in program.steps[s.start : s.stop] if step.path]) for s in segments]
    own = [prefix for prefix in prefixes if prefix and prefixes.count(prefix) == 1]
    return len(own) / len(segments)


def _joins(program: Program, segment: Segment) -> bool:
    """Whether branches meet in a segment: what a person calls a block goes around something and meets it again."""
    steps = program.steps[segment.start : segment.stop]
    return any(len({*step.inputs} - {*program.weights}) > 1 for step in steps)


def _begins(program: Program, segment: Segment) -> bool:
    """Whether a segment begins with a layer: an activation belongs to what is before it."""
    return bool(program.steps[segment.start].module)


def prefix_of(paths: Sequence[str]) -> str:
    """The words that the names of layers begin with, if any: "conv2_block1_" of "conv2_block1_1_conv" and others."""
    if len(paths) < 2:
        return ""
    first, last = min(paths), max(paths)
    common = next((first[:end] for end in range(len(first), 0, -1) if last.startswith(first[:end])), "")
    ends = [place for place, letter in enumerate(common) if letter in "_/."]
    whole = all(path == common or path[len(common) : len(common) + 1] in ("_", "/", ".") for path in paths)
    if whole and common and common[-1] not in "_/.":
        return common
    return common[: ends[-1] + 1] if ends else ""
