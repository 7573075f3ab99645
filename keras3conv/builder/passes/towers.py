"""A part of a model that is called several times with the same weights becomes a class with one instance.

Which statements belong to one call is known from the trace: `Step.calls` says it, so a tower may have any number of
inputs and outputs. The calls are one module's if they are the same statements, wired alike, and nothing else uses the
modules and the weights in them; otherwise they stay written out, which is as right, and longer.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import takewhile

from keras3conv.builder.passes.blocks import structured
from keras3conv.builder.passes.segments import size_from, symbols_in
from keras3conv.builder.passes.sequence import arranged
from keras3conv.builder.passes.tidying import tidied
from keras3conv.builder.program.names import class_identifier, identifier, places, unique
from keras3conv.builder.program.program import Module, Program, Step
from keras3conv.builder.program.structure import Block, Structure
from keras3conv.model.graph import Ref, refs
from keras3conv.rules.rule import LayerSpec

FEWEST_STATEMENTS, FEWEST_LAYERS = 3, 2
"""What a class needs, at least, to be read more easily than the calls written out."""

_GIVEN_BY_KERAS = re.compile(r"(functional|sequential|model)(_\d+)?")
"""Names that Keras gives to models that were given none."""

Role = tuple[int, int]
"""A value in any call: the number of the statement that makes it, and its place among what that makes."""


@dataclass(frozen=True, kw_only=True)
class _Call:
    """One call of a tower.

    Attributes:
        places: Where its statements stand in the program.
        steps: The statements.
        given: The values from elsewhere that they use, in the order in which they use them.
    """

    places: tuple[int, ...]
    steps: tuple[Step, ...]
    given: tuple[str, ...]

    @property
    def roles(self) -> dict[str, Role]:
        """What each value that it makes is in any call."""
        outputs = ((number, step.outputs) for number, step in enumerate(self.steps))
        return {name: (number, place) for number, names in outputs for place, name in enumerate(names)}

    @property
    def modules(self) -> tuple[str, ...]:
        """The submodules in the order in which it calls them."""
        return tuple(dict.fromkeys(step.module for step in self.steps if step.module))


def with_towers(program: Program) -> Structure:
    """The program with a class for every layer or model in it that is called again; the innermost first."""
    structure = Structure(program=program)
    for path in _paths(program):
        structure = _with_tower(structure, path)
    return replace(structure, program=tidied(arranged(structure.program)))


def _paths(program: Program) -> list[str]:
    """The paths of the layers that are called more than once, the innermost first."""
    depths: dict[str, int] = {}
    calls: dict[str, set[str]] = {}
    for step in program.steps:
        for depth, call in enumerate(step.calls):
            path = _path(call)
            depths[path] = max(depth, depths.get(path, 0))
            calls.setdefault(path, set()).add(call)
    return sorted((path for path in calls if len(calls[path]) > 1), key=lambda path: -depths[path])


def _path(call: str) -> str:
    return call.rpartition(":")[0]


def _with_tower(structure: Structure, path: str) -> Structure:
    """The structure with a class for this layer; as it was, where its calls are not alike."""
    program = structure.program
    calls = _calls(program, path)
    if len(calls) < 2 or not _is_one_module(program, calls):
        return structure
    returned = _returned(program, calls)
    name = _name(path)
    taken = {*program.modules, *(weight.name for weight in program.weights.values())}
    outer = unique(identifier(name), taken)
    inner = _inner_names(program, calls[0], identifier(path))
    class_name = unique(class_identifier(name.rpartition("/")[2]), structure.class_names, "")
    body = tidied(arranged(_body(program, calls[0], path, returned, inner)))
    parts = structured(Structure(program=body, blocks=structure.blocks), taken=(class_name,))
    block = Block(name=class_name, program=parts.program, arguments={}, uses=(outer,), calls=len(calls))
    paths = _moved(structure.paths, {key: parts.paths.get(name, name) for key, name in inner.items()}, parts, outer)
    return Structure(
        program=_replaced(program, calls, returned, path, block),
        blocks=(*parts.blocks, block),
        paths=paths,
    )


def _name(path: str) -> str:
    """The path of a layer, with a better name than one that Keras gave."""
    start, slash, last = path.rpartition("/")
    return f"{start}{slash}tower" if _GIVEN_BY_KERAS.fullmatch(last) else path


def _calls(program: Program, path: str) -> list[_Call]:
    found: dict[str, list[int]] = {}
    for place, step in enumerate(program.steps):
        for call in step.calls:
            if _path(call) == path:
                found.setdefault(call, []).append(place)
    return [_call(program, tuple(numbers)) for numbers in found.values()]


def _call(program: Program, numbers: tuple[int, ...]) -> _Call:
    steps = tuple(program.steps[place] for place in numbers)
    made = {name for step in steps for name in step.outputs}
    given = (name for step in steps for name in step.inputs if name not in made and name not in program.weights)
    return _Call(places=numbers, steps=steps, given=tuple(dict.fromkeys(given)))


def _is_one_module(program: Program, calls: Sequence[_Call]) -> bool:
    """Whether one module, called again and again, can stand for the calls."""
    first = calls[0]
    weights = {name for step in first.steps for name in step.inputs if name in program.weights}
    large = len(first.steps) >= FEWEST_STATEMENTS and len(first.modules) + len(weights) >= FEWEST_LAYERS
    if not large or None in _sizes(program, first).values():
        return False
    if not first.given or any(_pattern(program, call) != _pattern(program, first) for call in calls):
        return False
    inside = {place for call in calls for place in call.places}
    outside = [step for place, step in enumerate(program.steps) if place not in inside]
    own = {*weights, *(name for call in calls for name in call.modules)}
    used = {name for step in outside for name in (step.module, *step.inputs)}
    used |= {ref.name for ref in refs(program.outputs)}
    return not own & used and not any(_is_cut(program, call) for call in calls)


def _is_cut(program: Program, call: _Call) -> bool:
    """Whether something between the statements of a call needs what it makes, so that it cannot stand before it."""
    between = {*range(call.places[0], call.places[-1])} - {*call.places}
    return any(name in call.roles for place in between for name in program.steps[place].inputs)


def _pattern(program: Program, call: _Call) -> object:
    """What a call does with what it is given: equal for calls of one module."""
    wired: dict[str, object] = {**{name: number for number, name in enumerate(call.given)}, **call.roles}
    statements = [
        (step.template, tuple(wired.get(name, name) for name in step.inputs), _identity(program, step.module))
        for step in call.steps
    ]
    given = [(program.values[name].order, program.values[name].dtype) for name in call.given]
    return statements, given, _sizes(program, call)


def _identity(program: Program, name: str) -> object:
    """A module by its name, if it has weights; without any, two that are made alike are as good as one."""
    module = program.modules.get(name)
    return name if module is None or module.keras or module.spec.kind.startswith(".") else module.spec


def _sizes(program: Program, call: _Call) -> dict[str, tuple[int, int] | None]:
    """Which of the given values tells each free size, and at which place; None where none does."""
    return {symbol: size_from(program, call.given, symbol) for symbol in symbols_in(program, call.steps)}


def _returned(program: Program, calls: Sequence[_Call]) -> tuple[Role, ...]:
    """What any of the calls makes that is used after it."""
    found: set[Role] = set()
    for call in calls:
        roles = call.roles
        others = (step for place, step in enumerate(program.steps) if place not in call.places)
        found |= {roles[name] for step in others for name in step.inputs if name in roles}
        found |= {roles[ref.name] for ref in refs(program.outputs) if ref.name in roles}
    return tuple(sorted(found))


def _inner_names(program: Program, call: _Call, prefix: str) -> dict[str, str]:
    """What the modules and the weights of a call are called in its class, by their names in the flat program."""
    weights = dict.fromkeys(name for step in call.steps for name in step.inputs if name in program.weights)
    flat = [*call.modules, *(program.weights[key].name for key in weights)]
    found: dict[str, str] = {}
    for name in flat:
        rest = name.removeprefix(f"{prefix}_")
        found[name] = unique(identifier(rest), found.values())
    return found


def _body(program: Program, call: _Call, path: str, returned: Iterable[Role], inner: Mapping[str, str]) -> Program:
    """The program of one call, in the names of its class."""
    outputs = tuple(Ref(call.steps[number].outputs[place]) for number, place in returned)
    letters = ("x", "y", "z") if len(call.given) <= 3 else tuple(f"x{number + 1}" for number in range(len(call.given)))
    weights = {name for step in call.steps for name in step.inputs if name in program.weights}
    return Program(
        name="",
        inputs=tuple(program.values[name] for name in call.given),
        input_names=dict(zip(call.given, letters, strict=False)),
        steps=tuple(
            replace(step, module=inner.get(step.module, ""), path=step.path.removeprefix(f"{path}/"))
            for step in call.steps
        ),
        outputs=outputs[0] if len(outputs) == 1 else outputs,
        values=program.values,
        modules={inner[name]: replace(program.modules[name], name=inner[name]) for name in call.modules},
        weights={
            key: replace(weight, name=inner[weight.name]) for key, weight in program.weights.items() if key in weights
        },
        sizes={symbol: (call.given[told[0]], told[1]) for symbol, told in _sizes(program, call).items() if told},
    )


def _moved(paths: Mapping[str, str], inner: Mapping[str, str], parts: Structure, outer: str) -> dict[str, str]:
    """Where everything is after some modules went into the module `outer`."""
    moved = {}
    for flat, path in paths.items():
        start, dot, rest = path.partition(".")
        moved[flat] = f"{outer}.{inner[start]}{dot}{rest}" if start in inner else path
    return moved | {flat: f"{outer}.{name}" for flat, name in inner.items() if flat not in moved}


def _replaced(program: Program, calls: Sequence[_Call], returned: Sequence[Role], path: str, block: Block) -> Program:
    """The program with one statement for each call."""
    outer = block.uses[0]
    ends = {call.places[-1]: call for call in calls}
    inside = {place for call in calls for place in call.places}
    steps = []
    for place, step in enumerate(program.steps):
        if place in ends:
            steps.append(_statement(ends[place], returned, outer, path))
        elif place not in inside:
            steps.append(step)
    gone = {name for call in calls for name in call.modules}
    used = {name for call in calls for step in call.steps for name in step.inputs}
    modules = {name: module for name, module in program.modules.items() if name not in gone}
    modules[outer] = Module(name=outer, spec=LayerSpec(kind=f".{block.name}", config={}))
    weights = {key: weight for key, weight in program.weights.items() if key not in used}
    order = dict.fromkeys(step.module for step in steps if step.module)
    return replace(program, steps=tuple(steps), modules={name: modules[name] for name in order}, weights=weights)


def _statement(call: _Call, returned: Sequence[Role], outer: str, path: str) -> Step:
    """The one statement of a call; it stands in the calls that all its statements stood in."""
    around = takewhile(lambda one: _path(one) != path, call.steps[-1].calls)
    return Step(
        template=f"{{module}}({places(call.given)})",
        inputs=call.given,
        outputs=tuple(call.steps[number].outputs[place] for number, place in returned),
        module=outer,
        path=path,
        calls=tuple(around),
    )


__all__ = ["with_towers"]
