"""Describe an operation that both frameworks have: its names, its parameters, their defaults on both sides.

A rule pairs layers; an operation is a function without weights. How an argument that counts axes changes with the
layout is left to whoever knows the layout.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from keras3conv.errors import RuleError


class Default(Enum):
    """Stands for the default of a parameter that has none."""

    REQUIRED = "required"


REQUIRED = Default.REQUIRED


@dataclass(frozen=True, kw_only=True)
class Parameter:
    """A parameter of an operation that is no tensor, under its two names.

    Attributes:
        torch: Its name in torch.
        keras: Its name in Keras; empty if Keras has no such parameter, and always computes with the first of `values`.
        torch_default: Its default in torch.
        keras_default: Its default in `keras.ops`.
        activation_default: Its default in `keras.activations`.
        values: Pairs of a torch value and a Keras value that mean the same. All other values are equal on both sides.
        is_axis: Whether the value counts axes, and so depends on the layout.
    """

    torch: str
    keras: str
    torch_default: Any = REQUIRED
    keras_default: Any = REQUIRED
    activation_default: Any = REQUIRED
    values: tuple[tuple[Any, Any], ...] = ()
    is_axis: bool = False

    def to_keras(self, value: Any) -> Any:
        """Return the Keras value for a torch value."""
        return next((keras for torch, keras in self.values if _equal(torch, value)), value)

    def to_torch(self, value: Any) -> Any:
        """Return the torch value for a Keras value."""
        return next((torch for torch, keras in self.values if _equal(keras, value)), value)


@dataclass(frozen=True, kw_only=True)
class Operation:
    """An operation that both frameworks have.

    Attributes:
        torch: The qualified names of the torch functions that compute it, the preferred one first.
        keras: The qualified names of the Keras functions that compute it, the preferred one first.
        module: The torch module that computes it: "torch.nn.SiLU". Its arguments are called like the function's.
        activation: Its name in `keras.activations`.
        aten: The operators that `torch.export` writes for it: "aten.silu.default".
        tensorflow: The TensorFlow functions that compute it, each with the names of its parameters in the order of
            `keras_parameters`: "nn.leaky_relu features alpha".
        inputs: The names of its tensors in torch and in Keras.
        parameters: Its other parameters, in torch's order.
        is_elementwise: Whether every value is computed from the values at the same place, in any layout.
        note: How the two differ, where they do.
    """

    torch: tuple[str, ...]
    keras: tuple[str, ...]
    module: str = ""
    activation: str = ""
    aten: tuple[str, ...] = ()
    tensorflow: tuple[str, ...] = ()
    inputs: tuple[tuple[str, str], ...] = (("input", "x"),)
    parameters: tuple[Parameter, ...] = ()
    is_elementwise: bool = False
    note: str = ""

    @property
    def name(self) -> str:
        """The torch function's own name: "silu"."""
        return self.torch[0].rpartition(".")[2]

    @property
    def code(self) -> str:
        """The torch function as it is written in code: "F.silu", "torch.exp"."""
        return self.torch[0].replace("torch.nn.functional.", "F.")

    @property
    def keras_parameters(self) -> tuple[str, ...]:
        """The names of all Keras parameters: the tensors first."""
        return (*(keras for _, keras in self.inputs), *(entry.keras for entry in self.parameters if entry.keras))

    def to_keras(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Return the Keras arguments for torch arguments that are no tensors, torch's defaults included.

        Raises:
            RuleError: Keras has no such parameter, or torch's function needs another argument.
        """
        self._require_known(arguments, self.torch[0], {entry.torch for entry in self.parameters})
        made = {}
        for entry in self.parameters:
            value = _given(self.torch[0], entry.torch, arguments.get(entry.torch, entry.torch_default))
            if entry.keras:
                made[entry.keras] = entry.to_keras(value)
            elif not _equal(value, entry.values[0][0]):
                raise RuleError(f"{self.torch[0]} with {entry.torch}={value!r} has no counterpart in Keras")
        return made

    def to_torch(self, arguments: Mapping[str, Any], *, as_activation: bool = False) -> dict[str, Any]:
        """Return the torch arguments for Keras arguments that are no tensors, Keras' defaults included.

        Args:
            arguments: The arguments by name.
            as_activation: Whether the function of `keras.activations` is called, which may have other defaults.

        Raises:
            RuleError: Torch has no such parameter, or Keras' function needs another argument.
        """
        self._require_known(arguments, self.keras[0], {entry.keras for entry in self.parameters})
        made = {}
        for entry in self.parameters:
            has_own_default = as_activation and entry.activation_default is not REQUIRED
            default = entry.activation_default if has_own_default else entry.keras_default
            if entry.keras:
                value = _given(self.keras[0], entry.keras, arguments.get(entry.keras, default))
                made[entry.torch] = entry.to_torch(value)
            else:
                made[entry.torch] = entry.values[0][0]
        return made

    def without_defaults(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Return torch arguments without those that are torch's defaults."""
        defaults = {entry.torch: entry.torch_default for entry in self.parameters}
        return {name: value for name, value in arguments.items() if not _equal(value, defaults.get(name, REQUIRED))}

    def _require_known(self, arguments: Mapping[str, Any], function: str, known: set[str]) -> None:
        if unknown := arguments.keys() - known:
            raise RuleError(f"{function} with {', '.join(sorted(unknown))} has no counterpart")


def _given(function: str, name: str, value: Any) -> Any:
    if value is REQUIRED:
        raise RuleError(f"{function} needs the argument {name}")
    return value


def _equal(first: Any, second: Any) -> bool:
    """Return whether two arguments are the same; 0 is not False."""
    return isinstance(first, bool) == isinstance(second, bool) and bool(first == second)
