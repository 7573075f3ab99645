"""Search for repeated parts of a program: adjacent statements with few inputs and one output that occur again.

Two segments can become one block in two cases. Either they have the same operations and classes, connected in the same
way; constructor arguments that differ become arguments of the block. Or they use the same modules; then they become
calls of one module.
"""

from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from keras3conv.builder.program.operation import signature, transformed
from keras3conv.builder.program.program import Program, Step, is_module_call
from keras3conv.model.graph import refs

LONGEST = 120
"""The maximum number of statements in a block; a longer block would not make the code easier to read."""

SHORTEST = 3

MOST_INPUTS = 3
"""The maximum number of inputs of a block: the main tensor, and tensors such as a mask that every block receives."""

Token = tuple[object, ...]
"""A statement without its variables: only statements with equal tokens can repeat each other."""

_MODULE = "module"
"""The name that replaces the name of a module in a token."""


@dataclass(frozen=True, kw_only=True)
class Segment:
    """Adjacent statements of a program.

    Attributes:
        start: The index of the first statement.
        stop: The index after the last statement.
        given: The names of the values from outside the segment that its statements use, in order of use.
        path: The path of the source layer whose call the segment is; empty if it is none.
        calls: The calls of source layers around the segment.
    """

    start: int
    stop: int
    given: tuple[str, ...]
    path: str = ""
    calls: tuple[str, ...] = ()

    @property
    def length(self) -> int:
        """The number of statements."""
        return self.stop - self.start


def repeated(program: Program, *, with_shared: bool = True, paths: Container[str] | None = None) -> tuple[Segment, ...]:
    """Return the segments of the repetition that shortens the source code most; empty if none shortens it enough.

    Candidates have equal rolling hashes of their tokens; only candidates are compared exactly.

    Args:
        program: The program.
        with_shared: Whether segments that call the same modules may become calls of one block.
        paths: The paths of source layers; only segments that are one of these are found. None for all segments.
    """
    tokens = [_token(program, step) for step in program.steps]
    hashes = _Hashes(tokens)
    groups: dict[tuple[int, int], list[Segment]] = {}
    for segment in _segments(program, tokens):
        groups.setdefault((segment.length, hashes.of(segment)), []).append(segment)
    best: tuple[float, tuple[Segment, ...]] = (0.0, ())
    several = {key: found for key, found in groups.items() if len(found) > 1}
    if paths is not None:
        own = {key: [one for one in found if path_of(program, one) in paths] for key, found in several.items()}
        several = {key: found for key, found in own.items() if len(found) > 1}
    bounds = {key: _upper_bound(program, found) for key, found in several.items()}
    for group in sorted(several, key=lambda one: bounds[one], reverse=True):
        if bounds[group] <= best[0]:
            break
        for alike in _alike(program, tokens, several[group], with_shared=with_shared):
            chosen = _apart(alike)
            score = _score(program, chosen)
            if score > best[0]:
                best = score, chosen
    return best[1]


def path_of(program: Program, segment: Segment) -> str:
    """Return the path of the source layer that consists of the statements of a segment; empty if there is none."""
    paths = [step.path for step in program.steps[segment.start : segment.stop] if step.path]
    return prefix_of(paths).strip("_/.")


def _score(program: Program, chosen: Sequence[Segment]) -> float:
    """Return the number of statements that a block saves, with a bonus for signs that the segments belong together.

    The signs are a common name prefix, branches that meet, and a layer as first statement.
    """
    is_shared = _is_shared(program, chosen[0])
    if len(chosen) < 2 or (is_shared and not _has_every_use(program, chosen)):
        return 0.0
    saved = (len(chosen) - 1) * (chosen[0].length - 1) - _cost(is_shared=is_shared)
    bonus = _coherence(program, chosen) + _joins(program, chosen[0]) + 0.5 * _begins(program, chosen[0])
    return saved * (1 + bonus)


def _upper_bound(program: Program, found: Sequence[Segment]) -> float:
    """Return a score that no repetition among these segments can exceed."""
    is_any_shared = any(count > 1 for count in program.module_uses.values())
    is_any_shared = is_any_shared and any(_is_shared(program, segment) for segment in found)
    return ((len(found) - 1) * (found[0].length - 1) - _cost(is_shared=is_any_shared)) * 3.5


def _cost(*, is_shared: bool) -> float:
    """Return the number of statements that a block must save to justify a class; fewer for calls of a shared module."""
    return 1.0 if is_shared else 6.0


def _alike(
    program: Program, tokens: Sequence[Token | None], found: Sequence[Segment], *, with_shared: bool
) -> Iterable[list[Segment]]:
    """Return the groups of equivalent segments: the segments of a group can become one block."""
    groups: dict[tuple[object, ...], list[Segment]] = {}
    for segment in found:
        is_whole, is_shared = _is_whole(program, segment), with_shared and _is_shared(program, segment)
        key = _key(program, tokens, segment) if is_whole or is_shared else None
        if key is not None:
            groups.setdefault((*key, *(_owned(program, segment) if is_shared else ())), []).append(segment)
    return groups.values()


def _owned(program: Program, segment: Segment) -> tuple[tuple[str, str], ...]:
    """Return the modules and weights of a segment, an entry for each use: ("module", name) or ("weight", name)."""
    found: list[tuple[str, str]] = []
    for step in program.steps[segment.start : segment.stop]:
        found += [("module", step.module)] if step.module else []
        found += [("weight", name) for name in step.inputs if name in program.weights]
    return tuple(found)


def _uses(program: Program, owned: tuple[str, str]) -> int:
    kind, name = owned
    return program.module_uses[name] if kind == "module" else program.uses[name]


def _is_shared(program: Program, segment: Segment) -> bool:
    """Return True if a segment has several layers with weights, and all its modules and weights are used elsewhere."""
    owned = _owned(program, segment)
    layers = {one for one in owned if one[0] == "weight" or program.modules[one[1]].source}
    return len(layers) >= 2 and all(_uses(program, one) > owned.count(one) for one in owned)


def _has_every_use(program: Program, segments: Sequence[Segment]) -> bool:
    """Return True if the modules and weights of these segments are not used outside of these segments."""
    owned = _owned(program, segments[0])
    return all(_uses(program, one) == owned.count(one) * len(segments) for one in owned)


def _is_whole(program: Program, segment: Segment) -> bool:
    """Return True if a segment has two or more modules or weights, which are not used outside of the segment."""
    owned = _owned(program, segment)
    modules, weights = [one for one in owned if one[0] == "module"], {one for one in owned if one[0] == "weight"}
    is_alone = all(_uses(program, one) == owned.count(one) for one in owned)
    return is_alone and len(modules) + len(weights) >= 2


class _Hashes:
    """A rolling hash, which returns the hash of any run of tokens in constant time."""

    _BASE, _MODULUS = 1_000_003, (1 << 61) - 1

    def __init__(self, tokens: Sequence[Token | None]) -> None:
        numbers: dict[Token | None, int] = {}
        self._sums, self._powers = [0], [1]
        for token in tokens:
            number = numbers.setdefault(token, len(numbers) + 1)
            self._sums.append((self._sums[-1] * self._BASE + number) % self._MODULUS)
            self._powers.append(self._powers[-1] * self._BASE % self._MODULUS)

    def of(self, segment: Segment) -> int:
        """Return the hash of the tokens of a segment."""
        before = self._sums[segment.start] * self._powers[segment.length]
        return (self._sums[segment.stop] - before) % self._MODULUS


def _segments(program: Program, tokens: Sequence[Token | None]) -> Iterator[Segment]:
    """Yield every run of statements with few inputs whose last output is the only one that is used after the run."""
    maker = {output: place for place, step in enumerate(program.steps) for output in step.outputs}
    last_use = {name: place for place, step in enumerate(program.steps) for name in step.inputs}
    last_use |= {ref.name: len(program.steps) for ref in refs(program.outputs)}
    for start in range(len(program.steps)):
        given: dict[str, None] = {}
        needed = -1  # the last statement that uses an output of the run other than the last output
        for stop in range(start + 1, min(start + LONGEST, len(program.steps)) + 1):
            step = program.steps[stop - 1]
            given |= {name: None for name in step.inputs if maker.get(name, -1) < start and name not in program.weights}
            if len(given) > MOST_INPUTS or tokens[stop - 1] is None:
                break
            latest = max((last_use.get(name, -1) for name in step.outputs), default=-1)
            if given and stop - start >= SHORTEST and len(step.outputs) == 1 and needed < stop <= latest:
                yield Segment(start=start, stop=stop, given=tuple(given))
            needed = max(needed, latest)


def _token(program: Program, step: Step) -> Token | None:
    """Return the token of a statement; None for the call of an existing block."""
    kind = program.modules[step.module].spec.kind if step.module else ""
    if kind.startswith("."):
        return None
    return kind, shape_of(step), len(step.outputs), step.overwrites


def shape_of(step: Step) -> object:
    """Return a hashable value that is equal for statements that differ only in the names of values and modules."""
    return signature(with_modules(step.expression, lambda _: _MODULE))


def with_modules(expression: object, rename: Callable[[str], str]) -> object:
    """Return an expression with `rename` applied to the names of the modules that it calls."""
    return transformed(expression, lambda node: replace(node, name=rename(node.name)) if is_module_call(node) else node)


def _key(program: Program, tokens: Sequence[Token | None], segment: Segment) -> tuple[object, ...] | None:
    """Return a key that is equal for segments with the same tokens, connected in the same way.

    Return None if the segment uses a dynamic size that is not a size of its inputs.
    """
    names: dict[str, int] = {name: -1 - place for place, name in enumerate(segment.given)}
    modules: dict[str, int] = {}
    key: list[object] = []
    for place in range(segment.start, segment.stop):
        step = program.steps[place]
        wiring = tuple(names.get(name, "weight") for name in step.inputs)
        key.append((tokens[place], wiring, modules.setdefault(step.module, len(modules))))
        names |= dict.fromkeys(step.outputs, place - segment.start)
    axes = tuple(size_from(program, segment.given, symbol) for symbol in sizes_used(program, segment))
    orders = tuple(program.values[name].order for name in segment.given)
    return None if None in axes else (*key, axes, orders)


def sizes_used(program: Program, segment: Segment) -> tuple[str, ...]:
    """Return the dynamic sizes that a segment uses."""
    return symbols_in(program, program.steps[segment.start : segment.stop])


def symbols_in(program: Program, steps: Iterable[Step]) -> tuple[str, ...]:
    """Return the dynamic sizes that statements use."""
    used = {symbol for step in steps for symbol in step.symbols}
    return tuple(symbol for symbol in program.sizes if symbol in used)


def size_from(program: Program, given: Sequence[str], symbol: str) -> tuple[int, int] | None:
    """Return the index of an input and the position of its axis that has this dynamic size; None if there is none."""
    for number, name in enumerate(given):
        for position, size in enumerate(program.values[name].target_shape):
            if str(size) == symbol:
                return number, position
    return None


def _apart(segments: Sequence[Segment]) -> tuple[Segment, ...]:
    """Return segments that do not overlap; of two that overlap, keep the earlier one."""
    chosen: list[Segment] = []
    for segment in sorted(segments, key=lambda one: one.start):
        if not chosen or segment.start >= chosen[-1].stop:
            chosen.append(segment)
    return tuple(chosen)


def _coherence(program: Program, segments: Sequence[Segment]) -> float:
    """Return the fraction of segments whose layer names have a common prefix that is unique to the segment."""
    prefixes = [prefix_of([step.path for step in program.steps[s.start : s.stop] if step.path]) for s in segments]
    own = [prefix for prefix in prefixes if prefix and prefixes.count(prefix) == 1]
    return len(own) / len(segments)


def _joins(program: Program, segment: Segment) -> bool:
    """Return True if branches meet in a segment, as in a residual block."""
    steps = program.steps[segment.start : segment.stop]
    return any(len({*step.inputs} - {*program.weights}) > 1 for step in steps)


def _begins(program: Program, segment: Segment) -> bool:
    """Return True if a segment begins with a layer; a function such as an activation belongs to the layer before it."""
    return bool(program.steps[segment.start].module)


def prefix_of(paths: Sequence[str]) -> str:
    """Return the common prefix of layer names in whole words; an empty text for fewer than two names.

    The prefix of "conv2_block1_1_conv" and "conv2_block1_2_conv" is "conv2_block1_".
    """
    if len(paths) < 2:
        return ""
    first, last = min(paths), max(paths)
    common = next((first[:end] for end in range(len(first), 0, -1) if last.startswith(first[:end])), "")
    ends = [place for place, letter in enumerate(common) if letter in "_/."]
    is_whole = all(path == common or path[len(common) : len(common) + 1] in ("_", "/", ".") for path in paths)
    if is_whole and common and common[-1] not in "_/.":
        return common
    return common[: ends[-1] + 1] if ends else ""


__all__ = [
    "Segment",
    "path_of",
    "prefix_of",
    "repeated",
    "shape_of",
    "size_from",
    "sizes_used",
    "symbols_in",
    "with_modules",
]
