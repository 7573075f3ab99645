"""Propose mistakes between layers as causes: a missing factor, shortcut or gate, swapped layers, exchanged weights."""

from collections.abc import Callable, Iterator
from itertools import combinations
from typing import Any

import torch

from keras3conv.frameworks.torch.calls import TorchCall
from keras3conv.transforms import Shape
from keras3conv.validators.diagnosis.suspects.base import VIEWS, Case, Hypothesis, Suspect, replaced_by
from keras3conv.validators.diagnosis.suspects.in_keras import in_keras
from keras3conv.validators.running.transferred import TO_KERAS


def _factor(case: Case) -> Iterator[Hypothesis]:
    """Yield hypotheses that torch multiplies by a number or adds a number, and Keras does not."""
    names = {
        "mul": ("multiplies by", "multiply"),
        "div": ("divides by", "divide"),
        "add": ("adds", "add"),
        "sub": ("subtracts", "subtract"),
    }
    for operation in case.operations_named(*names):
        number = operation.get("dim")  # the second argument is named `dim`
        if isinstance(number, int | float) and not isinstance(number, bool):
            verb, keras_name = names[operation.name]
            yield Hypothesis(
                cause=f"torch {verb} {number:.6g} {case.where}, Keras does not",
                keras=f"x = keras.ops.{keras_name}(x, {number!r})  # {case.where_keras}",
                changes={operation.key: lambda call: call.get("input")},
            )


def _divisor(case: Case) -> Iterator[Hypothesis]:
    """Yield hypotheses that torch divides by a tensor, such as the number of steps that are not padding."""
    for operation in case.operations_named("div"):
        if isinstance(operation.get("dim"), tuple) and operation.get("input") == operation.result:
            yield Hypothesis(
                cause=f"torch divides by a tensor of shape {operation.get('dim')} {case.place_in_words(operation)}, "
                "Keras does not",
                keras=f"x = keras.ops.divide(x, divisor)  # {case.where_keras}, the divisor of {case.place(operation)}",
                changes={operation.key: replaced_by(_only, "input")},
            )


def _shortcut(case: Case) -> Iterator[Hypothesis]:
    for operation in case.operations_named("add"):
        if isinstance(operation.get("input"), tuple) and isinstance(operation.get("dim"), tuple):
            for name, kept, missing in (("input", "first", "second"), ("dim", "second", "first")):
                if operation.get(name) == operation.result:
                    yield Hypothesis(
                        cause=f"torch adds two tensors {case.where}, Keras has only the {kept} of them",
                        keras=f"x = keras.layers.Add()([x, {missing}])  # {case.where_keras}",
                        changes={operation.key: replaced_by(_only, name)},
                    )


_SOURCES = 12
"""The number of earlier results that are tried as the summand of an addition."""

_ADDITIONS = 3
"""The number of additions, the last ones, whose summands are searched."""


def _other_summand(case: Case) -> Iterator[Hypothesis]:
    """Yield hypotheses that Keras adds a different tensor: a shortcut that begins before or after a layer."""
    additions = [one for one in case.operations_named("add") if isinstance(one.get("input"), tuple)]
    for addition in additions[-_ADDITIONS:]:
        if addition.get("input") != addition.result or addition.get("dim") != addition.result:
            continue
        earlier = (one for one in case.torch.operations_before if one.place < addition.place)
        for source in [one for one in earlier if one.result == addition.result][-_SOURCES:]:
            result = f"the result of {source.name} {case.place_in_words(source)}"
            for name, which in (("input", "first"), ("dim", "second")):
                found: dict[str, Any] = {}
                yield Hypothesis(
                    cause=f"torch adds two tensors {case.place_in_words(addition)}; the {which} of them is {result} in "
                    "Keras",
                    fix=f"# {case.place(addition)}: add {result} instead of the {which} tensor",
                    keras=f"# {case.where_keras}: add what torch adds instead of {result}",
                    changes={
                        source.key: replaced_by(_remember, found),
                        addition.key: replaced_by(_with_remembered, found, name),
                    },
                )


def _remember(call: TorchCall, outputs: dict[str, Any]) -> Any:
    outputs["result"] = call.run()
    return outputs["result"]


def _with_remembered(call: TorchCall, remembered: dict[str, Any], name: str) -> Any:
    return call.run(**{name: remembered["result"]})


def _only(call: TorchCall, name: str) -> Any:
    return call.get(name)


def _gate(case: Case) -> Iterator[Hypothesis]:
    """Yield hypotheses that torch multiplies two tensors (as in a gate or a layer scale), and Keras uses only one."""
    for operation in case.operations_named("mul"):
        shapes = {name: operation.get(name) for name in ("input", "dim")}
        if all(isinstance(shape, tuple) for shape in shapes.values()):
            for name, other in (("input", "dim"), ("dim", "input")):
                if shapes[name] == operation.result:
                    factor = f"a tensor of shape {shapes[other]}"
                    yield Hypothesis(
                        cause=f"torch multiplies by {factor} {case.place_in_words(operation)}, Keras does not",
                        keras=f"x = keras.ops.multiply(x, scale)  # {case.where_keras}, the scale of "
                        f"{case.place(operation)}",
                        changes={operation.key: replaced_by(_only, name)},
                    )


_KERAS_COMBINING = {"add": "add", "mul": "multiply", "sub": "subtract", "maximum": "maximum"}

_COMBINING = {"add": torch.add, "mul": torch.mul, "sub": torch.sub, "maximum": torch.maximum}


def _other_combination(case: Case) -> Iterator[Hypothesis]:
    """Yield hypotheses that Keras combines two tensors by a different operation (adds instead of multiplying)."""
    for operation in case.operations_named(*_COMBINING):
        if not all(isinstance(operation.get(name), tuple) for name in ("input", "dim")):
            continue
        for name, function in _COMBINING.items():
            if name != operation.name:
                yield Hypothesis(
                    cause=f"torch combines two tensors by {operation.name} {case.where}, Keras by {name}",
                    fix=f"x = torch.{name}(first, second)  # {case.place_in_words(operation)}",
                    keras=f"x = keras.ops.{_KERAS_COMBINING[operation.name]}(first, second)  # {case.where_keras}",
                    changes={operation.key: replaced_by(_combined_by, function)},
                )


def _combined_by(call: TorchCall, function: Callable[..., Any]) -> Any:
    return function(call.get("input"), call.get("dim"))


def _missing_operation(case: Case) -> Iterator[Hypothesis]:
    """Yield hypotheses that Keras lacks an operation that does not change the shape."""
    for operation in case.torch.operations:
        if (
            operation.name not in _SEARCHED_ELSEWHERE
            and operation.result == operation.get("input")
            and operation.result
        ):
            yield Hypothesis(
                cause=f"torch calls {operation.name} {case.place_in_words(operation)}, Keras does not",
                keras=in_keras(case, operation),
                changes={operation.key: replaced_by(_only, "input")},
            )


_SEARCHED_ELSEWHERE = VIEWS | {"add", "sub", "mul", "div", "given", "conv1d", "conv2d", "conv3d", "linear"}
"""Operations that this suspect skips, because they only move values, or because another suspect changes them."""

_LAST = 6
"""The number of most recently called layers among which swapped layers are searched."""


def _swapped_layers(case: Case) -> Iterator[Hypothesis]:
    """Yield hypotheses that Keras swaps the results of two layers of equal shapes, such as query and key."""
    if case.point.in_layer:
        return
    called = dict.fromkeys(operation.owner for operation in reversed(case.torch.operations_before) if operation.owner)
    shapes = {owner: _own_shapes(case, owner) for owner in called}
    owners = [owner for owner in called if shapes[owner]][:_LAST]
    for first, second in combinations(owners, 2):
        if shapes[first] != shapes[second]:
            continue
        tensors = {}
        for name in shapes[first]:  # swapped weights swap the results
            tensors[f"{first}.{name}"] = case.torch.read(f"{second}.{name}")
            tensors[f"{second}.{name}"] = case.torch.read(f"{first}.{name}")
        if case.plan.is_changed(first) and case.plan.is_changed(second):
            yield Hypothesis(
                cause=f"the weights of {second} and {first} are swapped in Keras", fix=TO_KERAS, tensors=tensors
            )
        else:
            first_name, second_name = first.rpartition(".")[2], second.rpartition(".")[2]
            yield Hypothesis(
                cause=f"the results of {second} and {first} are swapped in Keras",
                keras=f"{second_name}, {first_name} = {first_name}, {second_name}  # {case.where_keras}",
                tensors=tensors,
            )


def _own_shapes(case: Case, owner: str) -> dict[str, Shape]:
    """Return the shapes of the tensors of the module at the path `owner`, by name, without those of its submodules."""
    shapes = {}
    for path, shape in case.torch.tensor_shapes.items():
        module, _, name = path.rpartition(".")
        if module == owner and name != "num_batches_tracked":
            shapes[name] = shape
    return shapes


def _other_layer(case: Case) -> Iterator[Hypothesis]:
    """Yield hypotheses that the Keras layer has the weights of a different torch layer with the same shapes."""
    if not case.point.in_layer:
        return
    roles = _own_shapes(case, case.point.torch_path)
    owners = dict.fromkeys(path.rpartition(".")[0] for path in case.torch.tensor_shapes)
    for owner in owners:
        shapes = {role: case.torch.tensor_shapes.get(f"{owner}.{role}") for role in roles}
        if owner != case.point.torch_path and roles and shapes == roles:
            yield Hypothesis(
                cause=f"Keras has the weights of {owner} here: layers of equal shapes are swapped",
                fix=case.of_plan(f'plan = plan.pair("{owner}", "{case.point.keras_path}")'),
                keras=_transfer_of_changed(case),
                tensors={f"{case.point.torch_path}.{role}": case.torch.read(f"{owner}.{role}") for role in roles},
            )


def _transfer_of_changed(case: Case) -> str:
    """Return the line that transfers the weights, for a layer that has other weights than the plan's.

    It is empty if the first line to paste is a transfer already, or if the weights are those of the plan.
    """
    is_needed = not case.is_plan_right and case.plan.is_changed(case.point.torch_path)
    return f"{TO_KERAS}  # if the pair is right: the weights were changed since" if is_needed else ""


FACTORS = (Suspect("a factor or summand in torch", _factor), Suspect("a divisor in torch", _divisor))

SUSPECTS = (
    Suspect("a shortcut", _shortcut),
    Suspect("a gate or a layer scale", _gate),
    Suspect("results of two layers swapped", _swapped_layers),
    Suspect("combined by another operation", _other_combination),
    Suspect("weights of another layer", _other_layer),
)

LAST = (
    Suspect("operation missing in Keras", _missing_operation),
    Suspect("a shortcut from another place", _other_summand),
)
