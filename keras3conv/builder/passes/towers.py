"""Create a class for each tower: a part of a model that is called several times with the same weights.

The trace records the statements of each call (`Step.calls`), so a tower may have any number of inputs and outputs. The
calls become calls of one module if they have the same statements, connected in the same way, and if their modules and
weights are not used elsewhere. Otherwise the statements of each call stay inlined, which is longer but equivalent.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import takewhile

from keras3conv.builder.passes.blocks import structured
from keras3conv.builder.passes.segments import shape_of, size_from, symbols_in, with_modules
from keras3conv.builder.passes.sequence import arranged
from keras3conv.builder.program.names import class_identifier, identifier, unique
from keras3conv.builder.program.operation import Submodule
from keras3conv.builder.program.program import Module, Program, Step
from keras3conv.builder.program.structure import Block, Structure
from keras3conv.model.graph import Ref, refs
from keras3conv.rules.rule import LayerSpec

FEWEST_STATEMENTS, FEWEST_LAYERS = 3, 2
"""The minimum numbers of statements and layers of a tower; smaller parts are easier to read if they are inlined."""

_DEFAULT_NAME = re.compile(r"(functional|sequential|model)(_\d+)?")
"""A pattern for the default names that Keras gives to models: "model", "functional_1"."""

Role = tuple[int, int]
"""The position of a value in a call of a tower: the index of its statement, and of the output of that statement."""

Tidy = Callable[[Program], Program]
"""A pass that simplifies the statements of a program; it depends on the target framework."""


@dataclass(frozen=True, kw_only=True)
class _Call:
    """One call of a tower (a part of the model that is called several times).

    Attributes:
        places: The indices of its statements in the program.
        steps: The statements of the call.
        inputs: The names of the values from outside the call that its statements use, in order of use.
    """

    places: tuple[int, ...]
    steps: tuple[Step, ...]
    inputs: tuple[str, ...]

    @property
    def roles(self) -> dict[str, Role]:
        """The position of each value that the call computes: (index of the statement, index of its output).

        Corresponding values of two calls have equal positions.
        """
        outputs = ((number, step.outputs) for number, step in enumerate(self.steps))
        return {name: (number, place) for number, names in outputs for place, name in enumerate(names)}

    @property
    def modules(self) -> tuple[str, ...]:
        """The submodules that the statements of the call use, in order."""
        return tuple(dict.fromkeys(step.module for step in self.steps if step.module))

    def weights(self, program: Program) -> tuple[str, ...]:
        """Return the names of the weights that the statements of the call use, in order."""
        return tuple(dict.fromkeys(name for step in self.steps for name in step.inputs if name in program.weights))


def with_towers(program: Program, tidied: Tidy) -> Structure:
    """Return the program with a class for every layer or model that is called several times, innermost ones first.

    Args:
        program: The program.
        tidied: The pass that simplifies the program of each class.
    """
    structure = Structure(program=program)
    for path in _paths(program):
        structure = _with_tower(structure, path, tidied)
    return replace(structure, program=tidied(arranged(structure.program)))


def _paths(program: Program) -> list[str]:
    """Return the paths of the layers and models that are called more than once, the innermost first."""
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


def _with_tower(structure: Structure, path: str, tidied: Tidy) -> Structure:
    """Return the program with a class for one layer that is called several times; unchanged if its calls differ."""
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
    paths = _moved(structure.paths, {key: parts.paths.get(name, name) for key, name in inner.items()}, outer)
    return Structure(
        program=_replaced(program, calls, returned, path, block),
        blocks=(*parts.blocks, block),
        paths=paths,
    )


def _name(path: str) -> str:
    """Return a layer's path as the name for its class; a default last part such as "model_1" becomes "tower"."""
    start, slash, last = path.rpartition("/")
    return f"{start}{slash}tower" if _DEFAULT_NAME.fullmatch(last) else path


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
    return _Call(places=numbers, steps=steps, inputs=tuple(dict.fromkeys(given)))


def _is_one_module(program: Program, calls: Sequence[_Call]) -> bool:
    """Return True if the calls of a layer can become calls of one module.

    They must have the same statements, connected in the same way, and use modules and weights that nothing else uses.
    """
    first = calls[0]
    weights = first.weights(program)
    is_large = len(first.steps) >= FEWEST_STATEMENTS and len(first.modules) + len(weights) >= FEWEST_LAYERS
    if not is_large or None in _sizes(program, first).values():
        return False
    if not first.inputs or any(_pattern(program, call) != _pattern(program, first) for call in calls):
        return False
    inside = {place for call in calls for place in call.places}
    outside = [step for place, step in enumerate(program.steps) if place not in inside]
    own = {*weights, *(name for call in calls for name in call.modules)}
    used = {name for step in outside for name in (step.module, *step.inputs)}
    used |= {ref.name for ref in refs(program.outputs)}
    return not own & used and not any(_is_cut(program, call) for call in calls)


def _is_cut(program: Program, call: _Call) -> bool:
    """Return True if a call of a layer cannot become one statement, because a foreign statement cuts it in two.

    The foreign statement lies between those of the call, does not belong to the call, and uses its results.
    """
    between = {*range(call.places[0], call.places[-1])} - {*call.places}
    return any(name in call.roles for place in between for name in program.steps[place].inputs)


def _pattern(program: Program, call: _Call) -> object:
    """Return a key of a call, made of its statements and connections, equal for calls that one module can replace."""
    wired: dict[str, object] = {**{name: number for number, name in enumerate(call.inputs)}, **call.roles}
    statements = [
        (shape_of(step), tuple(wired.get(name, name) for name in step.inputs), _identity(program, step.module))
        for step in call.steps
    ]
    given = [(program.values[name].order, program.values[name].dtype) for name in call.inputs]
    return statements, given, _sizes(program, call)


def _identity(program: Program, name: str) -> object:
    """Return a key of a module, equal for modules that compute the same.

    It is the name of a module with weights; for others, the class and the constructor arguments.
    """
    module = program.modules.get(name)
    return name if module is None or module.source or module.spec.kind.startswith(".") else module.spec


def _sizes(program: Program, call: _Call) -> dict[str, tuple[int, int] | None]:
    """Return, for each dynamic size in a call, an axis with this size: (index of an input, axis); None without one."""
    return {symbol: size_from(program, call.inputs, symbol) for symbol in symbols_in(program, call.steps)}


def _returned(program: Program, calls: Sequence[_Call]) -> tuple[Role, ...]:
    """Return the outputs of a repeated sequence of statements, each as (index of the statement, index of its output).

    They are the values that statements outside of the sequences use.
    """
    found: set[Role] = set()
    for call in calls:
        roles = call.roles
        others = (step for place, step in enumerate(program.steps) if place not in call.places)
        found |= {roles[name] for step in others for name in step.inputs if name in roles}
        found |= {roles[ref.name] for ref in refs(program.outputs) if ref.name in roles}
    return tuple(sorted(found))


def _inner_names(program: Program, call: _Call, prefix: str) -> dict[str, str]:
    """Return the names without `prefix` that the modules and weights of a call get in the class, by present name."""
    found: dict[str, str] = {}
    for name in (*call.modules, *(program.weights[key].name for key in call.weights(program))):
        found[name] = unique(identifier(name.removeprefix(f"{prefix}_")), found.values())
    return found


def _body(program: Program, call: _Call, path: str, returned: Iterable[Role], inner: Mapping[str, str]) -> Program:
    """Return the program of the tower's class: the statements of one call, with new names for modules and weights.

    Args:
        program: The program that contains the call.
        call: The call.
        path: The path of the layer that becomes the tower; the paths of its statements begin with it.
        returned: The outputs.
        inner: The new name of each module and weight, by its present name.
    """
    outputs = tuple(Ref(call.steps[number].outputs[place]) for number, place in returned)
    letters = (
        ("x", "y", "z") if len(call.inputs) <= 3 else tuple(f"x{number + 1}" for number in range(len(call.inputs)))
    )
    return Program(
        name="",
        inputs=tuple(program.values[name] for name in call.inputs),
        input_names=dict(zip(call.inputs, letters, strict=False)),
        steps=tuple(
            replace(
                step,
                expression=with_modules(step.expression, inner.__getitem__),
                path=step.path.removeprefix(f"{path}/"),
            )
            for step in call.steps
        ),
        outputs=outputs[0] if len(outputs) == 1 else outputs,
        values=program.values,
        modules={inner[name]: replace(program.modules[name], name=inner[name]) for name in call.modules},
        weights={
            key: replace(weight, name=inner[weight.name])
            for key, weight in program.weights.items()
            if key in call.weights(program)
        },
        sizes={symbol: (call.inputs[axis[0]], axis[1]) for symbol, axis in _sizes(program, call).items() if axis},
    )


def _moved(paths: Mapping[str, str], inner: Mapping[str, str], outer: str) -> dict[str, str]:
    """Return the paths of all modules and weights, by name, after those of a tower have moved into a module.

    Args:
        paths: The paths of the modules and weights that are in a block, by their names before any block was made.
        inner: The new name of each module and weight that moves, by its present name.
        outer: The name of the module into which they move.
    """
    moved = {}
    for flat, path in paths.items():
        start, dot, rest = path.partition(".")
        moved[flat] = f"{outer}.{inner[start]}{dot}{rest}" if start in inner else path
    return moved | {flat: f"{outer}.{name}" for flat, name in inner.items() if flat not in moved}


def _replaced(program: Program, calls: Sequence[_Call], returned: Sequence[Role], path: str, block: Block) -> Program:
    """Return the program with the statements of each call replaced by one call of the tower's module."""
    outer = block.uses[0]
    ends = {call.places[-1]: call for call in calls}
    inside = {place for call in calls for place in call.places}
    steps = []
    for place, step in enumerate(program.steps):
        if place in ends:
            steps.append(_call_statement(ends[place], returned, outer, path))
        elif place not in inside:
            steps.append(step)
    gone = {name for call in calls for name in call.modules}
    used = {name for call in calls for step in call.steps for name in step.inputs}
    modules = {name: module for name, module in program.modules.items() if name not in gone}
    modules[outer] = Module(name=outer, spec=LayerSpec(kind=f".{block.name}", config={}))
    weights = {key: weight for key, weight in program.weights.items() if key not in used}
    order = dict.fromkeys(step.module for step in steps if step.module)
    return replace(program, steps=tuple(steps), modules={name: modules[name] for name in order}, weights=weights)


def _call_statement(call: _Call, returned: Sequence[Role], outer: str, path: str) -> Step:
    """Return the statement that calls the module `outer` instead of the statements of one call of the layer `path`."""
    around = takewhile(lambda one: _path(one) != path, call.steps[-1].calls)
    return Step(
        expression=Submodule(outer)(*map(Ref, call.inputs)),
        outputs=tuple(call.steps[number].outputs[place] for number, place in returned),
        path=path,
        calls=tuple(around),
    )
