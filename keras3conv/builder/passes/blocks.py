"""Repeated blocks become a class that is used several times."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from keras3conv.builder.passes.segments import Segment, prefix_of, repeated, size_from, sizes_used
from keras3conv.builder.program.names import class_identifier, identifier, places, unique
from keras3conv.builder.program.program import Module, Program, Step, Weight
from keras3conv.builder.program.structure import Argument, Block, Structure, simplified
from keras3conv.model.graph import Ref
from keras3conv.rules.rule import LayerSpec

_SHORT = {
    "Conv": "conv", "Linear": "linear", "BatchNorm": "norm", "LayerNorm": "norm", "ZeroPad": "pad", "MaxPool": "pool",
    "AvgPool": "pool", "Dropout": "dropout",
}  # fmt: skip


def structured(structure: Structure, taken: Iterable[str] = ()) -> Structure:
    """Finds what repeats itself, the longest first, until nothing is left that would help a reader.

    Args:
        structure: A program, with the classes that there are already.
        taken: Names that no further class may have.
    """
    while segments := repeated(structure.program):
        structure = _with_block(structure, segments, taken)
    return structure


def _with_block(structure: Structure, segments: Sequence[Segment], others: Iterable[str]) -> Structure:
    program = structure.program
    occurrences = [_Occurrence(program, segment) for segment in segments]
    inner = _inner_names(occurrences)
    taken = {*(name for name in program.modules), *(weight.name for weight in program.weights.values())}
    shared = all(occurrence.keys == occurrences[0].keys for occurrence in occurrences)
    kind = "tower" if shared else "block"
    block_name = _class_name(occurrences, {*structure.class_names, *others}, kind)
    named = _outer_names(occurrences[:1] if shared else occurrences, taken, identifier(block_name))
    names = named * len(occurrences) if shared else named
    arguments = _Arguments()
    modules = _modules(occurrences, inner, arguments)
    weights = _weights(occurrences, inner, arguments)
    body = _body(occurrences[0], inner, modules, weights)
    block = Block(
        name=block_name,
        program=body,
        arguments={name: _type(values) for name, values in arguments.named.items()},
        uses=tuple(named),
        calls=len(names) // len(named),
    )
    paths = dict(structure.paths)
    for occurrence, outer in zip(occurrences, names, strict=True):
        for key in occurrence.keys:
            paths[occurrence.flat(key)] = f"{outer}.{inner[occurrence.position(key)]}"
    return Structure(
        program=_replaced(program, occurrences, names, block_name, arguments),
        blocks=(*structure.blocks, block),
        paths=paths,
    )


class _Occurrence:
    """One place where a block stands."""

    def __init__(self, program: Program, segment: Segment) -> None:
        self.program, self.segment = program, segment
        self.steps = program.steps[segment.start : segment.stop]
        names: dict[str, None] = {}
        for step in self.steps:
            if step.module:
                names.setdefault(step.module)
            for name in step.inputs:
                if name in program.weights:
                    names.setdefault(name)
        self.keys = tuple(names)
        self.prefix = prefix_of([step.path for step in self.steps if step.path])

    def position(self, key: str) -> int:
        """The place of a module or a weight among those of the block: the same in every occurrence."""
        return self.keys.index(key)

    def flat(self, key: str) -> str:
        """What a module or a weight is called in the flat program."""
        return self.program.weights[key].name if key in self.program.weights else key

    def stripped(self, key: str) -> str:
        """The name without what the names of this place begin with."""
        name, prefix = self.flat(key), identifier(self.prefix) if self.prefix else ""
        rest = name.removeprefix(prefix).strip("_") if prefix else name
        return identifier(rest) if rest else name


def _inner_names(occurrences: Sequence[_Occurrence]) -> list[str]:
    """What modules and weights are called in the block: what Keras calls them, where that is the same everywhere."""
    first = occurrences[0]
    told = [[occurrence.stripped(key) for key in occurrence.keys] for occurrence in occurrences]
    wanted = [
        told[0][place] if len({names[place] for names in told}) == 1 else _by_kind(first, key)
        for place, key in enumerate(first.keys)
    ]
    names: list[str] = []
    for place, name in enumerate(wanted):
        counted = wanted.count(name) > 1
        names.append(unique(f"{name}_{wanted[: place + 1].count(name)}" if counted else name, names))
    return names


def _by_kind(occurrence: _Occurrence, key: str) -> str:
    if key in occurrence.program.weights:
        return "weight"
    kind = occurrence.program.modules[key].spec.kind.rpartition(".")[2]
    return next((short for start, short in _SHORT.items() if kind.startswith(start)), identifier(kind))


def _outer_names(occurrences: Sequence[_Occurrence], taken: Iterable[str], block: str) -> list[str]:
    names: list[str] = []
    for place, occurrence in enumerate(occurrences, 1):
        numbered = f"{block}_{place}" if len(occurrences) > 1 else block
        wanted = identifier(occurrence.prefix) if occurrence.prefix.strip("_/.") else numbered
        names.append(unique(wanted, {*taken, *names}))
    return names


def _class_name(occurrences: Sequence[_Occurrence], taken: Iterable[str], kind: str) -> str:
    """The words that all names begin with, without numbers: "EncoderLayer" for "encoder_layer_0" and others."""
    words = [_words(occurrence.prefix) for occurrence in occurrences]
    common = words[0] if all(one == words[0] for one in words) else []
    name = class_identifier("_".join(word for word in common if len(word) > 1) or kind)
    return unique(name, taken, "")


def _words(prefix: str) -> list[str]:
    """The words of a name without the numbers at their ends."""
    parts = (part.strip("0123456789") for part in prefix.replace("/", "_").split("_"))
    return [part for part in parts if part.isalpha()]


class _Arguments:
    """The arguments of a block: one for everything that has the same values at all its places."""

    def __init__(self) -> None:
        self.named: dict[str, list[Any]] = {}

    def of(self, values: list[Any], owner: str, name: str) -> Any:
        """The value, if it is the same everywhere, else the argument that stands for it."""
        if all(value == values[0] and type(value) is type(values[0]) for value in values):
            return values[0]
        for known, there in self.named.items():
            if there == values:
                return Argument(known)
        wanted = name if name not in self.named else f"{owner}_{name}"
        made = unique(identifier(wanted), self.named)
        self.named[made] = values
        return Argument(made)


def _modules(occurrences: Sequence[_Occurrence], inner: Sequence[str], arguments: _Arguments) -> dict[str, Module]:
    first = occurrences[0]
    found = {}
    for place, key in enumerate(first.keys):
        if key in first.program.weights:
            continue
        modules = [occurrence.program.modules[occurrence.keys[place]] for occurrence in occurrences]
        configs, kind = [module.spec.config for module in modules], modules[0].spec.kind
        config = {
            name: arguments.of([simplified(name, one.get(name), kind) for one in configs], inner[place], name)
            for name in dict.fromkeys(name for one in configs for name in one)
        }
        trainable = {module.trainable for module in modules}
        spec = LayerSpec(kind=kind, config=config)
        found[inner[place]] = Module(name=inner[place], spec=spec, trainable=trainable == {True})
    return found


def _weights(occurrences: Sequence[_Occurrence], inner: Sequence[str], arguments: _Arguments) -> dict[str, Weight]:
    first = occurrences[0]
    found = {}
    for place, key in enumerate(first.keys):
        if key in first.program.weights:
            weights = [occurrence.program.weights[occurrence.keys[place]] for occurrence in occurrences]
            sizes = zip(*(weight.shape for weight in weights), strict=True)
            shape = tuple(arguments.of(list(size), inner[place], "features") for size in sizes)
            found[key] = replace(weights[0], name=inner[place], shape=shape)
    return found


def _body(
    first: _Occurrence, inner: Sequence[str], modules: Mapping[str, Module], weights: Mapping[str, Weight]
) -> Program:
    program, segment = first.program, first.segment
    steps = tuple(
        replace(step, module=inner[first.position(step.module)] if step.module else "") for step in first.steps
    )
    sizes = {}
    for symbol in sizes_used(program, segment):
        number, place = size_from(program, segment.given, symbol) or (0, 0)
        sizes[symbol] = segment.given[number], place
    inputs = {value.name for value in program.inputs}
    free = iter(("x", "y", "z"))
    named = {name: program.input_names.get(name, "") if name in inputs else next(free) for name in segment.given}
    return Program(
        name="",
        inputs=tuple(program.values[name] for name in segment.given),
        input_names=named,
        steps=steps,
        outputs=Ref(first.steps[-1].outputs[0]),
        values=program.values,
        modules=modules,
        weights=weights,
        sizes=sizes,
    )


def _replaced(
    program: Program, occurrences: Sequence[_Occurrence], names: Sequence[str], block: str, arguments: _Arguments
) -> Program:
    steps: list[Step] = []
    inside = {key for occurrence in occurrences for key in occurrence.keys}
    modules = dict(program.modules)
    order: dict[str, Module] = {}
    starts = {occurrence.segment.start: place for place, occurrence in enumerate(occurrences)}
    covered = {place for one in occurrences for place in range(one.segment.start, one.segment.stop)}
    for place, step in enumerate(program.steps):
        if place in starts:
            number = starts[place]
            occurrence, name = occurrences[number], names[number]
            config = {argument: values[number] for argument, values in arguments.named.items()}
            order[name] = Module(name=name, spec=LayerSpec(kind=f".{block}", config=config))
            outputs = occurrence.steps[-1].outputs
            given, path = occurrence.segment.given, occurrence.prefix
            called = f"{{module}}({places(given)})"
            steps.append(Step(template=called, inputs=given, outputs=outputs, module=name, path=path))
        elif place not in covered:
            steps.append(step)
            if step.module:
                order.setdefault(step.module, modules[step.module])
    weights = {key: weight for key, weight in program.weights.items() if key not in inside}
    return replace(program, steps=tuple(steps), modules=order, weights=weights)


def _type(values: Sequence[Any]) -> str:
    """The type of an argument as it is written."""
    return " | ".join(dict.fromkeys(_type_of(value) for value in values))


def _type_of(value: Any) -> str:
    if value is None:
        return "None"
    if isinstance(value, tuple):
        inner = " | ".join(dict.fromkeys(map(_type_of, value)))
        return f"tuple[{inner}, ...]"
    return type(value).__name__


__all__ = ["structured"]
