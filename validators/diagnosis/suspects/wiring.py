"""How layers are joined: a factor or a shortcut that one side has not, the weights of another layer."""

from collections.abc import Callable, Iterator
from itertools import combinations
from typing import Any

import torch

from keras3conv.frameworks.torch.replay import Operation, TorchCall
from keras3conv.transforms import Shape
from keras3conv.validators.diagnosis.suspects.base import VIEWS, Case, Suspect, Suspicion, doing


def _factor(case: Case) -> Iterator[Suspicion]:
    """A number that torch multiplies by, or adds, and Keras does not; in `mul` and `add` it is the second argument."""
    words = {"mul": "multiplies by", "div": "divides by", "add": "adds", "sub": "subtracts"}
    for operation in case.named(*words):
        number = operation.get("dim")
        if isinstance(number, int | float) and not isinstance(number, bool):
            yield Suspicion(
                cause=f"torch {words[operation.name]} {number:.6g} {case.where}, Keras does not",
                fix=f"x = keras.ops.{_keras_name(operation)}(x, {number!r})  # {case.where_keras}",
                changes={operation.key: lambda call: call.get("input")},
            )


def _keras_name(operation: Operation) -> str:
    return {"mul": "multiply", "div": "divide", "add": "add", "sub": "subtract"}[operation.name]


def _shortcut(case: Case) -> Iterator[Suspicion]:
    for operation in case.named("add"):
        if isinstance(operation.get("input"), tuple) and isinstance(operation.get("dim"), tuple):
            for name in ("input", "dim"):
                if operation.get(name) == operation.result:
                    yield Suspicion(
                        cause=f"torch adds two tensors {case.where}, Keras has only the "
                        f"{'first' if name == 'input' else 'second'} of them",
                        fix=f"x = keras.layers.Add()([x, {'second' if name == 'input' else 'first'}])  "
                        f"# {case.where_keras}",
                        changes={operation.key: doing(_only, name)},
                    )


def _only(call: TorchCall, name: str) -> Any:
    return call.get(name)


def _gate(case: Case) -> Iterator[Suspicion]:
    """Two tensors that torch multiplies: a gate, or the scale of a layer; Keras has one of them."""
    for operation in case.named("mul"):
        shapes = {name: operation.get(name) for name in ("input", "dim")}
        if all(isinstance(shape, tuple) for shape in shapes.values()):
            for name, other in (("input", "dim"), ("dim", "input")):
                if shapes[name] == operation.result:
                    factor = f"a tensor of {shapes[other]}"
                    yield Suspicion(
                        cause=f"torch multiplies by {factor} {_in(case, operation)}, Keras does not",
                        fix=f"x = keras.ops.multiply(x, scale)  # {case.where_keras}, the scale of "
                        f"{operation.owner or case.where}",
                        changes={operation.key: doing(_only, name)},
                    )


def _in(case: Case, operation: Operation) -> str:
    return f"in {operation.owner}" if operation.owner else case.where


_COMBINING = {"add": torch.add, "mul": torch.mul, "sub": torch.sub, "maximum": torch.maximum}


def _combined_otherwise(case: Case) -> Iterator[Suspicion]:
    """Two tensors that torch adds and Keras multiplies, and the like."""
    for operation in case.named(*_COMBINING):
        if not all(isinstance(operation.get(name), tuple) for name in ("input", "dim")):
            continue
        for name, function in _COMBINING.items():
            if name != operation.name:
                yield Suspicion(
                    cause=f"torch joins two tensors by {operation.name} {case.where}, Keras by {name}",
                    fix=f"x = torch.{name}(first, second)  # {_in(case, operation)}",
                    changes={operation.key: doing(_joined_by, function)},
                )


def _joined_by(call: TorchCall, function: Callable[..., Any]) -> Any:
    return function(call.get("input"), call.get("dim"))


def _left_out(case: Case) -> Iterator[Suspicion]:
    """Anything that keeps the shape, and that Keras does not do."""
    for operation in case.operations:
        if operation.name not in _KEEPING and operation.result == operation.get("input") and operation.result:
            yield Suspicion(
                cause=f"torch calls {operation.name} {_in(case, operation)}, Keras does not",
                fix=f"x = ...  # {case.where_keras}: what {operation.name} makes of x in {operation.owner or 'torch'}",
                changes={operation.key: doing(_only, "input")},
            )


_KEEPING = VIEWS | {"add", "sub", "mul", "div", "given", "conv1d", "conv2d", "conv3d", "linear"}
"""What moves values only, or is asked after by a suspect of its own."""


_LAST = 6
"""Of so many layers that torch called last, two may be in each other's place."""


def _crossed(case: Case) -> Iterator[Suspicion]:
    """What two layers of equal shapes return, each used where the other belongs: query for key, gate for up."""
    if case.inside:
        return
    called = dict.fromkeys(operation.owner for operation in reversed(case.before) if operation.owner)
    shapes = {owner: _roles(case, owner) for owner in called}
    owners = [owner for owner, roles in shapes.items() if roles][:_LAST]
    for first, second in combinations(owners, 2):
        if shapes[first] == shapes[second]:
            yield Suspicion(
                cause=f"what {second} and {first} return is used the other way round in Keras",
                fix=_exchanging(second, first) + f"  # {case.where_keras}",
                tensors={
                    f"{owner}.{role}": case.read(f"{other}.{role}")
                    for owner, other in ((first, second), (second, first))
                    for role in shapes[first]
                },
            )


def _exchanging(first: str, second: str) -> str:
    one, other = (path.rpartition(".")[2] for path in (first, second))
    return f"{one}, {other} = {other}, {one}"


def _roles(case: Case, owner: str) -> dict[str, Shape]:
    """The shapes of what a module owns itself, by the last part of the name."""
    own = {path: shape for path, shape in case.tensors.items() if path.rpartition(".")[0] == owner}
    return {path.rpartition(".")[2]: shape for path, shape in own.items() if not path.endswith("num_batches_tracked")}


def _other_layer(case: Case) -> Iterator[Suspicion]:
    """Two layers of equal shapes, each with the weights of the other."""
    if not case.inside:
        return
    roles = _roles(case, case.torch_path)
    owners = dict.fromkeys(path.rpartition(".")[0] for path in case.tensors)
    for owner in owners:
        theirs = {role: case.tensors.get(f"{owner}.{role}") for role in roles}
        if owner != case.torch_path and roles and theirs == roles:
            yield Suspicion(
                cause=f"Keras has the weights of {owner} here: layers of equal shapes are swapped",
                fix=f'plan = plan.pair("{owner}", "{case.keras_path}")',
                tensors={f"{case.torch_path}.{role}": case.read(f"{owner}.{role}") for role in roles},
            )


FACTORS = (Suspect("a factor or a summand", _factor),)

SUSPECTS = (
    Suspect("a shortcut", _shortcut),
    Suspect("a gate or a scale", _gate),
    Suspect("two layers in each other's place", _crossed),
    Suspect("joined by another operation", _combined_otherwise),
    Suspect("weights of another layer", _other_layer),
)

LAST = (Suspect("left out in Keras", _left_out),)
