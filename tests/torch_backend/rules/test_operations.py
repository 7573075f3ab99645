"""The table of operations: the names exist, the defaults are true, and both sides compute the same."""

import inspect
from collections.abc import Callable, Mapping
from functools import reduce
from typing import Any

import keras
import numpy as np
import pytest
import torch

from keras3conv.errors import RuleError
from keras3conv.rules.operation import REQUIRED, Operation, Parameter
from keras3conv.rules.operations import OPERATIONS, activations, for_keras, for_torch

IDS = [entry.keras[0].rpartition(".")[2] + "/" + entry.name for entry in OPERATIONS]
EACH = pytest.mark.parametrize("entry", OPERATIONS, ids=IDS)

OF_WHOLE_NUMBERS = {"bitwise_not", "bitwise_and", "bitwise_or", "bitwise_xor", "gcd", "lcm"}
INPUTS = {"where": "brr", "take_along_dim": "ri", "bmm": "mm", "matmul": "mm", "outer": "vv", "index_select": "rv"}
ARGUMENTS: Mapping[str, Mapping[str, Any]] = {
    "broadcast_to": {"size": (3, 4, 4)},
    "full_like": {"fill_value": 2.5},
    "hardtanh": {},
    "movedim": {"source": 0, "destination": -1},
    "permute": {"dims": (2, 0, 1)},
    "repeat_interleave": {"repeats": 3, "dim": 1},
    "reshape": {"shape": (4, -1)},
    "roll": {"shifts": 1, "dims": 1},
    "squeeze": {"dim": 0},
    "take_along_dim": {"dim": 1},
    "threshold": {"threshold": 0.3, "value": -2.0},
    "tile": {"dims": (1, 2, 1)},
    "transpose": {"dim0": 1, "dim1": -1},
}
"""Arguments for operations whose parameters are not all axes or numbers."""


def resolve(name: str) -> Any:
    return reduce(getattr, name.split(".")[1:], {"torch": torch, "keras": keras}[name.partition(".")[0]])


def operator(name: str) -> torch._ops.OpOverload:
    """Return the operator with a name such as "aten.exp.default"."""
    _, operation, overload = name.split(".")
    found: torch._ops.OpOverload = getattr(getattr(torch.ops.aten, operation), overload)
    return found


def tensors(entry: Operation) -> list[torch.Tensor]:
    """Return inputs between -2 and 2; no size occurs twice unless an operation needs it."""
    random = np.random.default_rng(0)
    if entry.name in ("cat", "stack"):
        return [torch.from_numpy(random.uniform(-2, 2, (2, 3, 4)).astype("float32")) for _ in range(2)]
    makers: dict[str, Callable[[], Any]] = {
        "b": lambda: random.integers(0, 2, (1, 4, 4)).astype(bool),
        "i": lambda: random.integers(0, 4, (1, 4, 4)),
        "m": lambda: random.uniform(-2, 2, (1, 4, 4)).astype("float32"),
        "n": lambda: random.integers(1, 9, (1, 4, 4)),
        "r": lambda: random.uniform(-2, 2, (1, 4, 4)).astype("float32"),
        "v": lambda: (
            random.integers(0, 1, 3) if entry.name == "index_select" else random.uniform(-2, 2, 5).astype("float32")
        ),
    }
    usual = "n" if entry.name in OF_WHOLE_NUMBERS else "r"
    return [torch.from_numpy(makers[kind]()) for kind in INPUTS.get(entry.name, usual * len(entry.inputs))]


def arguments(entry: Operation, *, others: bool) -> dict[str, Any]:
    """Return torch arguments: only the required ones, or with `others` a non-default value for every parameter."""
    if entry.name in ARGUMENTS:
        return dict(ARGUMENTS[entry.name])
    chosen = {}
    for parameter in entry.parameters:
        if parameter.keras and (others or parameter.torch_default is REQUIRED or parameter.torch == "min"):
            chosen[parameter.torch] = value_for(parameter)
    return chosen


def value_for(parameter: Parameter) -> Any:
    if parameter.is_axis:
        return (1,) if parameter.torch == "dims" else 1
    if isinstance(parameter.torch_default, bool):
        return not parameter.torch_default
    if isinstance(parameter.torch_default, str):
        return next(torch for torch, _ in parameter.values if torch != parameter.torch_default)
    return {"min": -0.5, "max": 0.75, "nan": 3.0, "posinf": 4.0, "neginf": -5.0}.get(
        parameter.torch, (parameter.torch_default or 0) + 1
    )


def called(function: Callable[..., Any], names: list[str], given: list[torch.Tensor], chosen: Mapping[str, Any]) -> Any:
    """Call a function with its tensors by name; a function that joins tensors takes them in a list."""
    together = [given] if len(names) == 1 and len(given) > 1 else given
    return function(**dict(zip(names, together, strict=True)), **chosen)


def torch_result(entry: Operation, given: list[torch.Tensor], chosen: Mapping[str, Any]) -> torch.Tensor:
    found: torch.Tensor = called(resolve(entry.torch[0]), [torch for torch, _ in entry.inputs], given, chosen)
    return found


@EACH
def test_every_function_name_in_the_operation_table_exists(entry: Operation) -> None:
    for name in (*entry.torch, *entry.keras, *filter(None, (entry.module, entry.activation))):
        assert callable(resolve(name)), name
    for name in entry.aten:
        assert operator(name) is not None


@EACH
def test_the_parameters_and_defaults_are_those_of_keras(entry: Operation) -> None:
    signature = inspect.signature(resolve(entry.keras[0])).parameters
    assert [keras for _, keras in entry.inputs] == list(signature)[: len(entry.inputs)]
    for parameter in entry.parameters:
        if parameter.keras:
            default = signature[parameter.keras].default
            assert parameter.keras_default == (REQUIRED if default is inspect.Parameter.empty else default)


@pytest.mark.parametrize("name", [name for name, entry in activations().items() if entry.parameters])
def test_the_defaults_of_an_activation_are_those_of_keras(name: str) -> None:
    entry = activations()[name]
    signature = inspect.signature(resolve(entry.activation)).parameters
    for parameter in entry.parameters:
        if parameter.keras:
            own = parameter.activation_default
            default = signature[parameter.keras].default
            expected = parameter.keras_default if own is REQUIRED else own
            assert expected == (REQUIRED if default is inspect.Parameter.empty else default)


def needs_nothing(entry: Operation) -> bool:
    return all(parameter.keras_default is not REQUIRED or not parameter.keras for parameter in entry.parameters)


@pytest.mark.parametrize("others", [False, True], ids=["defaults", "other values"])
@EACH
def test_every_operation_computes_the_same_in_torch_and_keras(entry: Operation, others: bool) -> None:
    given, chosen = tensors(entry), arguments(entry, others=others) | fixed(entry)
    expected = torch_result(entry, given, chosen)
    names = [keras for _, keras in entry.inputs]
    for name in entry.keras:
        found = called(resolve(name), names, given, entry.to_keras(chosen))
        assert found.shape == expected.shape, name
        np.testing.assert_allclose(found.numpy(), expected.numpy(), rtol=3e-6, atol=1e-6, err_msg=name)


def fixed(entry: Operation) -> dict[str, Any]:
    """Return the torch arguments without a Keras parameter."""
    return {parameter.torch: parameter.values[0][0] for parameter in entry.parameters if not parameter.keras}


@pytest.mark.parametrize("others", [False, True], ids=["defaults", "other values"])
@EACH
def test_arguments_are_unchanged_after_translation_in_both_directions(entry: Operation, others: bool) -> None:
    chosen = arguments(entry, others=others) | fixed(entry)
    there = entry.to_keras(chosen)
    assert entry.to_keras(entry.to_torch(there)) == there
    assert entry.to_torch(there).items() >= chosen.items()


@pytest.mark.parametrize(
    "name", [name for name, entry in activations().items() if entry.module and needs_nothing(entry)]
)
def test_the_torch_module_computes_the_activation_of_keras(name: str) -> None:
    entry = activations()[name]
    values = torch.linspace(-3, 3, 24, dtype=torch.float64).reshape(4, 6)
    module = resolve(entry.module)(**entry.to_torch({}, as_activation=True))
    found = resolve(entry.activation)(values)
    np.testing.assert_allclose(found.numpy(), module(values).numpy(), rtol=1e-12, atol=1e-12)


class Everything(torch.nn.Module):
    """Calls every operation of the table that has operators."""

    def __init__(self, *, others: bool) -> None:
        super().__init__()
        self.entries = [entry for entry in OPERATIONS if entry.aten]
        self.others = others

    def forward(self, given: dict[str, list[torch.Tensor]]) -> list[torch.Tensor]:
        return [
            torch_result(entry, given[str(place)], arguments(entry, others=self.others) | fixed(entry))
            for place, entry in enumerate(self.entries)
        ]


@pytest.mark.slow
@pytest.mark.parametrize("others", [False, True], ids=["defaults", "other values"])
def test_an_exported_module_has_operators_of_the_table(others: bool) -> None:
    model = Everything(others=others)
    given = {str(place): tensors(entry) for place, entry in enumerate(model.entries)}
    program = torch.export.export(model, (given,))
    found = {str(node.target) for node in program.graph.nodes if node.op == "call_function"}
    missing = [entry.name for entry in model.entries if not found & set(entry.aten)]
    assert missing == []
    assert {name for name in found if not for_torch(name)} <= {"aten._assert_tensor_metadata.default"}


def test_an_operation_is_found_by_all_its_names() -> None:
    (silu,) = for_torch("torch.nn.SiLU")
    assert for_torch("torch.nn.functional.silu") == for_torch("aten.silu.default") == (silu,)
    assert for_keras("keras.ops.silu") == for_keras("keras.activations.silu") == (silu,)
    assert for_torch("torch.nothing") == for_keras("keras.ops.nothing") == ()


def test_differing_defaults_are_translated_explicitly() -> None:
    (leaky,) = for_torch("torch.nn.LeakyReLU")
    assert leaky.to_keras({}) == {"negative_slope": 0.01}
    assert leaky.to_torch({}) == {"negative_slope": 0.2}
    assert leaky.without_defaults({"negative_slope": 0.01}) == {}
    (gelu,) = for_torch("aten.gelu.default")
    assert gelu.to_keras({}) == {"approximate": False}
    assert gelu.to_torch({}) == {"approximate": "tanh"}
    assert gelu.to_torch({}, as_activation=True) == {"approximate": "none"}


def test_arguments_without_a_counterpart_are_refused() -> None:
    (variance,) = for_torch("torch.var")
    with pytest.raises(RuleError, match=r"torch\.var with correction=1 has no counterpart in Keras"):
        variance.to_keras({"dim": 1})
    with pytest.raises(RuleError, match=r"torch\.var with out has no counterpart"):
        variance.to_keras({"out": 1})
    (threshold,) = for_torch("torch.nn.Threshold")
    with pytest.raises(RuleError, match="is called without the required argument default_value"):
        threshold.to_torch({"threshold": 1.0})
