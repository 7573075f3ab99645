"""Replace repeated parts of a program by blocks: classes that are instantiated several times."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from keras3conv.builder.passes.lifting import Arguments, type_of
from keras3conv.builder.passes.occurrences import Occurrence, class_name_of, inner_names, outer_names
from keras3conv.builder.passes.repeated import repeated
from keras3conv.builder.passes.segments import Segment, size_from, sizes_used, with_modules
from keras3conv.builder.program.names import identifier
from keras3conv.builder.program.operation import Submodule
from keras3conv.builder.program.program import Module, Program, Step, Weight
from keras3conv.builder.program.structure import Block, Structure, simplified
from keras3conv.model.graph import Ref
from keras3conv.rules.rule import LayerSpec


def structured(
    structure: Structure,
    taken: Iterable[str] = (),
    *,
    with_shared: bool = True,
    least: int = 2,
) -> Structure:
    """Replace repeated parts of a program by blocks (classes), one block after the other.

    The next block is always the one that shortens the code most. The search ends when no block shortens it enough.

    Args:
        structure: A program; it may already have blocks.
        taken: Class names that must not be used.
        with_shared: Whether segments (sequences of statements) that call the same modules may become calls of one
            block.
        least: The minimum number of modules and weights that a block has.

    Returns:
        The new program with all blocks, old and new.
    """
    while segments := repeated(structure.program, with_shared=with_shared, least=least):
        structure = with_block(structure, segments, taken, {})
    return structure


def with_block(
    structure: Structure,
    segments: Sequence[Segment],
    taken_classes: Iterable[str],
    classes: Mapping[str, str],
    arguments: Arguments | None = None,
) -> Structure:
    """Replace segments (sequences of statements) by calls of one block, a class for all of them.

    Args:
        structure: The program and the blocks that it already has.
        segments: The segments, which differ only in constructor arguments and in literals.
        taken_classes: Class names that must not be used.
        classes: The class of each source layer, by its path.
        arguments: The collection to which the constructor arguments of the block are added; by default a new one.

    Returns:
        The new program with the old blocks and the new one.
    """
    program = structure.program
    occurrences = [Occurrence(program, segment) for segment in segments]
    inner = inner_names(occurrences)
    is_shared = all(occurrence.keys == occurrences[0].keys for occurrence in occurrences)
    taken_names = {*structure.class_names, *taken_classes}
    arguments = Arguments() if arguments is None else arguments
    class_name = class_name_of(occurrences, taken_names, "tower" if is_shared else "block", classes)
    taken = {*program.modules, *(weight.name for weight in program.weights.values())}
    if all(segment.path for segment in segments):
        taken -= {key for occurrence in occurrences for key in occurrence.keys}
    uses = outer_names(occurrences[:1] if is_shared else occurrences, taken, identifier(class_name))
    names = uses * len(occurrences) if is_shared else uses
    modules = _modules(occurrences, inner, arguments)
    weights = _weights(occurrences, inner, arguments)
    body = _body(occurrences, inner, modules, weights, arguments)
    block = Block(
        name=class_name,
        program=body,
        arguments={name: type_of(values) for name, values in arguments.named.items()},
        uses=tuple(uses),
        calls=len(names) // len(uses),
    )
    return Structure(
        program=_replaced(program, occurrences, names, class_name, arguments),
        blocks=(*structure.blocks, block),
        paths=_paths(structure, occurrences, names, inner),
    )


def _paths(
    structure: Structure, occurrences: Sequence[Occurrence], names: Sequence[str], inner: Sequence[str]
) -> dict[str, str]:
    """Return the paths of all modules and weights after a block (a class) has replaced segments of the program.

    The keys are the names that they had in the program before any block was made: {"layer1_conv": "layer1.conv"}.

    Args:
        structure: The program before the replacement. Modules and weights in its older blocks get new paths, too.
        occurrences: The segments (sequences of statements) that the block replaces.
        names: For each segment, the attribute name of the block's instance.
        inner: The names of the modules and weights in the new block, in the order of `Occurrence.keys`.
    """
    moved = {
        key: f"{outer}.{name}"
        for occurrence, outer in zip(occurrences, names, strict=True)
        for key, name in zip(map(occurrence.flat_name, occurrence.keys), inner, strict=True)
    }
    paths = {}
    for flat, path in structure.paths.items():
        head, _, rest = path.partition(".")
        paths[flat] = f"{moved[head]}.{rest}" if head in moved and rest else path
    blocks = {name for name, module in structure.program.modules.items() if module.spec.kind.startswith(".")}
    return paths | {key: path for key, path in moved.items() if key not in blocks}


def _modules(occurrences: Sequence[Occurrence], inner: Sequence[str], arguments: Arguments) -> dict[str, Module]:
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


def _weights(occurrences: Sequence[Occurrence], inner: Sequence[str], arguments: Arguments) -> dict[str, Weight]:
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
    occurrences: Sequence[Occurrence],
    inner: Sequence[str],
    modules: Mapping[str, Module],
    weights: Mapping[str, Weight],
    arguments: Arguments,
) -> Program:
    """Return the program of a block's class: the statements of the first segment that it replaces, with new names.

    Args:
        occurrences: The sequences of statements that the block replaces.
        inner: The new names of the modules and weights, in the order of `Occurrence.keys`.
        modules: The modules of the class.
        weights: The weights of the class.
        arguments: The collection to which a constructor argument is added for each value that differs between the
            segments.
    """
    first = occurrences[0]
    program, segment = first.program, first.segment
    names = dict(zip(first.keys, inner, strict=True))
    steps = tuple(
        replace(
            step,
            expression=with_modules(
                arguments.lifted([one.expression for one in alike], program.variable(step.outputs[0])),
                names.__getitem__,
            ),
        )
        for step, alike in zip(first.steps, zip(*(one.steps for one in occurrences), strict=True), strict=True)
    )
    sizes = {}
    for symbol in sizes_used(program, segment):
        number, position = size_from(program, segment.inputs, symbol) or (0, 0)
        sizes[symbol] = segment.inputs[number], position
    inputs = {value.name for value in program.inputs}
    free = iter(("x", "y", "z"))
    input_names = {
        name: program.input_names.get(name, "") if name in inputs else _usual_variable(occurrences, place) or next(free)
        for place, name in enumerate(segment.inputs)
    }
    return Program(
        name="",
        inputs=tuple(program.values[name] for name in segment.inputs),
        input_names=input_names,
        steps=steps,
        outputs=Ref(first.steps[-1].outputs[0]),
        values=program.values,
        modules=modules,
        weights=weights,
        sizes=sizes,
        variables=program.variables,
    )


def _usual_variable(occurrences: Sequence[Occurrence], place: int) -> str:
    """Return the most frequent name that the user's code gives to an input of a block; empty if there is none.

    Args:
        occurrences: The sequences of statements that the block replaces.
        place: The index of the input among the inputs of each sequence.
    """
    found = (one.program.variable(one.segment.inputs[place], len(one.segment.calls)) for one in occurrences)
    return next((name for name, _ in Counter(name for name in found if name).most_common(1)), "")


def _replaced(
    program: Program, occurrences: Sequence[Occurrence], names: Sequence[str], block: str, arguments: Arguments
) -> Program:
    """Return the program in which each of the segments is replaced by one statement that calls the block.

    Args:
        program: The program.
        occurrences: The sequences of statements that the block replaces.
        names: For each of these sequences, the attribute name of the block's instance.
        block: The name of the class.
        arguments: The values of the constructor arguments in each of these sequences.
    """
    steps: list[Step] = []
    modules: dict[str, Module] = {}
    starts = {occurrence.segment.start: number for number, occurrence in enumerate(occurrences)}
    covered = {place for one in occurrences for place in range(one.segment.start, one.segment.stop)}
    for place, step in enumerate(program.steps):
        if place in starts:
            number = starts[place]
            occurrence, name = occurrences[number], names[number]
            config = {argument: values[number] for argument, values in arguments.named.items()}
            modules[name] = Module(name=name, spec=LayerSpec(kind=f".{block}", config=config))
            called = Submodule(name)(*map(Ref, occurrence.segment.inputs))
            steps.append(
                Step(
                    expression=called,
                    outputs=occurrence.steps[-1].outputs,
                    path=occurrence.prefix,
                    calls=occurrence.segment.calls,
                )
            )
        elif place not in covered:
            steps.append(step)
            if step.module:
                modules.setdefault(step.module, program.modules[step.module])
    inside = {key for occurrence in occurrences for key in occurrence.keys}
    weights = {key: weight for key, weight in program.weights.items() if key not in inside}
    return replace(program, steps=tuple(steps), modules=modules, weights=weights)
