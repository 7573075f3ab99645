"""Search for repeated parts of a program: adjacent statements with few inputs and one output that occur again.

Two segments can become one block (a class) in two cases. Either they have the same operations and classes, connected in
the same way; constructor arguments that differ become arguments of the block. Or they use the same modules; then both
become calls of one module.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from keras3conv.builder.passes.segments import Segment, apart, prefix_of, shape_of, size_from
from keras3conv.builder.program.program import Program, Step

LONGEST = 120
"""The maximum number of statements in a block; a longer block would not make the code easier to read."""

SHORTEST = 3

MOST_INPUTS = 3
"""The maximum number of inputs of a block, such as the main tensor, a mask and a position embedding."""

Token = tuple[object, ...]
"""The key of a statement; only statements with equal keys can repeat each other. None for one that cannot repeat."""


def repeated(program: Program, *, with_shared: bool = True, least: int = 2) -> tuple[Segment, ...]:
    """Return the segments (sequences of statements) whose replacement by calls of one block shortens the code most.

    The result is empty if none does. For speed, segments are first compared by a hash, and only equal ones exactly.

    Args:
        program: The program.
        with_shared: Whether segments that call the same modules may become calls of one block.
        least: The minimum number of modules and weights that a segment has.
    """
    tokens = [_token(program, step) for step in program.steps]
    owners = _Owners(program, least)
    groups: dict[tuple[int, int], list[Segment]] = {}
    for segment in _segments(program, tokens):
        groups.setdefault((segment.length, segment.key), []).append(segment)
    best: tuple[float, tuple[Segment, ...]] = (0.0, ())
    several = {key: found for key, found in groups.items() if len(found) > 1}
    bounds = {key: _upper_bound(owners, found) for key, found in several.items()}
    for group in sorted(several, key=lambda one: bounds[one], reverse=True):
        if bounds[group] <= best[0]:
            break
        for alike in _alike(owners, several[group], with_shared=with_shared):
            chosen = apart(alike)
            score = _score(program, owners, chosen)
            if score > best[0] and _are_equal(program, tokens, chosen):
                best = score, chosen
    return best[1]


def _score(program: Program, owners: "_Owners", chosen: Sequence[Segment]) -> float:
    """Return how many statements a block saves that replaces these segments, times a factor that prefers natural ones.

    A segment (sequence of statements) is natural if its layer names have a common prefix, if branches meet in it, or if
    its first statement is a layer call.
    """
    is_shared = owners.is_shared(chosen[0])
    if len(chosen) < 2 or (is_shared and not _has_every_use(program, chosen)):
        return 0.0
    saved = (len(chosen) - 1) * (chosen[0].length - 1) - _cost(is_shared=is_shared)
    bonus = _coherence(program, chosen) + _joins(program, chosen[0]) + 0.5 * _begins(program, chosen[0])
    return saved * (1 + bonus)


def _upper_bound(owners: "_Owners", segments: Sequence[Segment]) -> float:
    """Return an upper bound of the `_score` of all choices among the segments `segments`, which have equal hashes."""
    is_any_shared = owners.has_shared and any(map(owners.is_shared, segments))
    return ((len(apart(segments)) - 1) * (segments[0].length - 1) - _cost(is_shared=is_any_shared)) * 3.5


def _cost(*, is_shared: bool) -> float:
    """Return how many statements a block must save to be made; fewer if the segments call the same modules."""
    return 1.0 if is_shared else 6.0


def _alike(owners: "_Owners", segments: Sequence[Segment], *, with_shared: bool) -> Iterable[list[Segment]]:
    """Return groups of segments (sequences of statements) such that one block can replace all segments of a group.

    Args:
        owners: The modules and weights that segments use.
        segments: Segments with equal hashes.
        with_shared: Whether segments that call the same modules may be a group.
    """
    groups: dict[tuple[object, ...], list[Segment]] = {}
    for segment in segments:
        is_whole, is_shared = owners.is_whole(segment), with_shared and owners.is_shared(segment)
        key = _outer_key(owners.program, segment) if is_whole or is_shared else None
        if key is not None:
            groups.setdefault((*key, *(owners.of(segment) if is_shared else ())), []).append(segment)
    return groups.values()


def _has_every_use(program: Program, segments: Sequence[Segment]) -> bool:
    """Return True if no other statement uses the modules and weights that these sequences of statements use."""
    owned = Counter(_owned(program, segments[0].start, segments[0].stop))
    return all(_uses(program, one) == number * len(segments) for one, number in owned.items())


def _owned(program: Program, start: int, stop: int) -> tuple[tuple[str, str], ...]:
    """Return ("module", name) or ("weight", name) for each time that statements use a module or a weight.

    Args:
        program: The program.
        start: The index of the first statement.
        stop: The index after the last statement.
    """
    found: list[tuple[str, str]] = []
    for step in program.steps[start:stop]:
        found += [("module", step.module)] if step.module else []
        found += [("weight", name) for name in step.inputs if name in program.weights]
    return tuple(found)


def _uses(program: Program, owned: tuple[str, str]) -> int:
    kind, name = owned
    return program.module_uses[name] if kind == "module" else program.uses[name]


class _Owners:
    """Finds the modules and weights that a segment uses, and those among them that other statements use, too."""

    def __init__(self, program: Program, least: int) -> None:
        self.program, self.least = program, least
        self.has_shared = any(count > 1 for count in program.module_uses.values())
        self._all, self._repeated = [0], [0]
        for place in range(len(program.steps)):
            owned = _owned(program, place, place + 1)
            self._all.append(self._all[-1] + len(owned))
            self._repeated.append(self._repeated[-1] + sum(_uses(program, one) > 1 for one in owned))

    def of(self, segment: Segment) -> tuple[tuple[str, str], ...]:
        """Return the modules and weights that statements use, in order, as ("module", name) or ("weight", name)."""
        return _owned(self.program, segment.start, segment.stop)

    def _numbers(self, segment: Segment) -> tuple[int, int]:
        """Return two counts of a segment: its uses of modules and weights, and those of shared modules and weights."""
        return (
            self._all[segment.stop] - self._all[segment.start],
            self._repeated[segment.stop] - self._repeated[segment.start],
        )

    def is_shared(self, segment: Segment) -> bool:
        """Return True if all modules and weights of a segment are also used elsewhere, and two or more have weights."""
        number, repeated_number = self._numbers(segment)
        if repeated_number < number:
            return False
        program, owned = self.program, Counter(self.of(segment))
        layers = [one for one in owned if one[0] == "weight" or program.modules[one[1]].source]
        return len(layers) >= 2 and all(_uses(program, one) > number for one, number in owned.items())

    def is_whole(self, segment: Segment) -> bool:
        """Return True if a segment uses at least `least` modules or weights, and no other statement uses them."""
        number, repeated_number = self._numbers(segment)
        if not repeated_number:
            return number >= self.least
        owned = Counter(self.of(segment))
        used = sum(number if kind == "module" else 1 for (kind, _), number in owned.items())
        return used >= self.least and all(_uses(self.program, one) == number for one, number in owned.items())


def _segments(program: Program, tokens: Sequence[Token | None]) -> Iterator[Segment]:
    """Yield every segment with at most `MOST_INPUTS` inputs whose last output alone is used by later statements.

    Args:
        program: The program.
        tokens: For each statement, a key equal for statements that can repeat each other; None for one that cannot.
    """
    maker = {output: place for place, step in enumerate(program.steps) for output in step.outputs}
    latest_uses = list(map(program.last_use, program.steps))
    numbers: dict[Token | None, int] = {}
    kinds = [numbers.setdefault(token, len(numbers)) for token in tokens]
    for start in range(len(program.steps)):
        places: dict[str, int] = {}  # of the values: negative for inputs
        modules: dict[str, int] = {}
        given: tuple[str, ...] = ()
        symbols: set[str] = set()
        needed, key = -1, 0  # the last statement that uses an output of the run other than the last output
        for stop in range(start + 1, min(start + LONGEST, len(program.steps)) + 1):
            step, latest = program.steps[stop - 1], latest_uses[stop - 1]
            for name in step.inputs:
                if name not in places and maker.get(name, -1) < start and name not in program.weights:
                    given = (*given, name)
                    places[name] = -len(given)
            if len(given) > MOST_INPUTS or tokens[stop - 1] is None:
                break
            wiring = tuple(map(places.get, step.inputs))  # None for a weight
            key = hash((key, kinds[stop - 1], wiring, modules.setdefault(step.module, len(modules))))
            places |= dict.fromkeys(step.outputs, stop - 1 - start)
            if program.sizes:
                symbols.update(step.symbols)
            if given and stop - start >= SHORTEST and len(step.outputs) == 1 and needed < stop <= latest:
                used = tuple(symbol for symbol in program.sizes if symbol in symbols)
                yield Segment(start=start, stop=stop, inputs=given, symbols=used, key=key)
            needed = max(needed, latest)


def _token(program: Program, step: Step) -> Token | None:
    """Return a key of a statement; statements with equal keys can become one statement of a block.

    The key is None for the call of an existing block, which no other block may contain.
    """
    kind = program.modules[step.module].spec.kind if step.module else ""
    if kind.startswith("."):
        return None
    return kind, shape_of(step), len(step.outputs), step.overwrites


def _are_equal(program: Program, tokens: Sequence[Token | None], segments: Sequence[Segment]) -> bool:
    """Return True if sequences of statements with equal hashes have the same statements, connected in the same way.

    Args:
        program: The program.
        tokens: For each statement, a key equal for statements that can repeat each other; None for one that cannot.
        segments: The sequences of statements.
    """
    first = _key(program, tokens, segments[0])
    return all(_key(program, tokens, segment) == first for segment in segments)


def _key(program: Program, tokens: Sequence[Token | None], segment: Segment) -> list[object]:
    """Return a hash of a segment, from the keys of its statements (`tokens`) and the connections between them."""
    names: dict[str, int] = {name: -1 - place for place, name in enumerate(segment.inputs)}
    modules: dict[str, int] = {}
    key: list[object] = []
    for place in range(segment.start, segment.stop):
        step = program.steps[place]
        wiring = tuple(names.get(name, "weight") for name in step.inputs)
        key.append((tokens[place], wiring, modules.setdefault(step.module, len(modules))))
        names |= dict.fromkeys(step.outputs, place - segment.start)
    return key


def _outer_key(program: Program, segment: Segment) -> tuple[object, ...] | None:
    """Return a key: (index of an input, axis) for each dynamic size in a segment, and the axis orders of the inputs.

    Return None if no input has an axis of a dynamic size: then the segment cannot be a function of its inputs.
    """
    axes = tuple(size_from(program, segment.inputs, symbol) for symbol in segment.symbols)
    return None if None in axes else (axes, tuple(program.values[name].order for name in segment.inputs))


def _coherence(program: Program, segments: Sequence[Segment]) -> float:
    """Return the fraction of segments with a common prefix of layer names that no other segment has."""
    prefixes = [prefix_of([step.path for step in program.steps[s.start : s.stop] if step.path]) for s in segments]
    counts = Counter(prefixes)
    own = [prefix for prefix in prefixes if prefix and counts[prefix] == 1]
    return len(own) / len(segments)


def _joins(program: Program, segment: Segment) -> bool:
    """Return True if branches meet in a sequence of statements, as in the sum at the end of a residual block."""
    steps = program.steps[segment.start : segment.stop]
    return any(len({*step.inputs} - {*program.weights}) > 1 for step in steps)


def _begins(program: Program, segment: Segment) -> bool:
    """Return True if a sequence of statements begins with the call of a layer.

    A sequence that begins with a function is a worse block, because an activation belongs to the layer before it.
    """
    return bool(program.steps[segment.start].module)
