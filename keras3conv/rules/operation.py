"""Define an operation (a function without weights) that both frameworks have: its names, parameters and defaults.

An axis argument depends on the axis order of the tensors too. It is not translated here but by the callers, which know
the axis order.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from keras3conv.errors import RuleError


class Default(Enum):
    """The class of `REQUIRED`, which stands in place of a default: the caller must give the parameter."""

    REQUIRED = "required"


REQUIRED = Default.REQUIRED


@dataclass(frozen=True, kw_only=True)
class Parameter:
    """A parameter of an operation; tensors are not parameters.

    Attributes:
        torch: The name of the parameter in torch.
        keras: The name in Keras; empty if Keras has no such parameter. Then only the first torch value in `values` has
            a counterpart.
        torch_default: The default in torch.
        keras_default: The default in `keras.ops`.
        activation_default: The default in `keras.activations`.
        values: Pairs of a torch value and a Keras value with the same meaning; other values are equal on both sides.
        is_axis: Whether the value is the index of an axis, which depends on the axis order.
    """

    torch: str
    keras: str
    torch_default: Any = REQUIRED
    keras_default: Any = REQUIRED
    activation_default: Any = REQUIRED
    values: tuple[tuple[Any, Any], ...] = ()
    is_axis: bool = False

    def to_keras(self, value: Any) -> Any:
        """Return the value of the Keras argument for a value of the torch argument."""
        return next((keras for torch, keras in self.values if _equal(torch, value)), value)

    def to_torch(self, value: Any) -> Any:
        """Return the value of the torch argument for a value of the Keras argument."""
        return next((torch for torch, keras in self.values if _equal(keras, value)), value)


@dataclass(frozen=True, kw_only=True)
class Operation:
    """An operation that both frameworks have.

    Attributes:
        torch: The qualified names of the torch functions for the operation, the preferred one first.
        keras: The qualified names of the Keras functions for the operation, the preferred one first.
        module: The torch module for the operation: "torch.nn.SiLU". Its arguments have the names of the parameters.
        activation: The name in `keras.activations`.
        aten: The operators that `torch.export` emits for the operation, such as "aten.silu.default".
        tensorflow: The TensorFlow functions for the operation, each with the names of its parameters in the order of
            `keras_parameters`, such as "nn.leaky_relu features alpha".
        inputs: Pairs of the torch name and the Keras name of each tensor.
        parameters: The other parameters, in torch's order.
        is_elementwise: Whether each output value depends only on the input values at the same index.
        note: The difference between the frameworks, as a sentence; empty if there is none.
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
        """The name of the torch function without its package, such as "silu"."""
        return self.torch[0].rpartition(".")[2]

    @property
    def code(self) -> str:
        """The torch function as written in source code: "F.silu", "torch.exp"."""
        return self.torch[0].replace("torch.nn.functional.", "F.")

    @property
    def keras_parameters(self) -> tuple[str, ...]:
        """The names of all parameters of the Keras function, those of tensors first."""
        return (*(keras for _, keras in self.inputs), *(entry.keras for entry in self.parameters if entry.keras))

    def to_keras(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Return the Keras arguments of an operation for its torch arguments; tensors are not among them.

        A missing argument gets torch's default.

        Raises:
            RuleError: Keras has no such parameter, or a required torch argument is missing.
        """
        self._require_known(arguments, self.torch[0], {entry.torch for entry in self.parameters})
        made = {}
        for entry in self.parameters:
            value = _given(self.torch[0], entry.torch, arguments.get(entry.torch, entry.torch_default))
            if entry.keras:
                made[entry.keras] = entry.to_keras(value)
            elif not _equal(value, entry.values[0][0]):
                raise RuleError(
                    f"{self.torch[0]} with {entry.torch}={value!r} has no counterpart in Keras"
                    ": use another value, or compute it in a custom layer"
                )
        return made

    def to_torch(self, arguments: Mapping[str, Any], *, as_activation: bool = False) -> dict[str, Any]:
        """Return the torch arguments of an operation for its Keras arguments, without tensors.

        A missing argument gets Keras' default.

        Args:
            arguments: The arguments by name.
            as_activation: Whether to use the defaults of `keras.activations` instead of `keras.ops`.

        Raises:
            RuleError: Torch has no such parameter, or a required Keras argument is missing.
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
        """Return those of the torch arguments that differ from torch's defaults.

        Args:
            arguments: The torch arguments by name.
        """
        defaults = {entry.torch: entry.torch_default for entry in self.parameters}
        return {name: value for name, value in arguments.items() if not _equal(value, defaults.get(name, REQUIRED))}

    def _require_known(self, arguments: Mapping[str, Any], function: str, known: set[str]) -> None:
        if unknown := arguments.keys() - known:
            raise RuleError(
                f"{function} with {', '.join(sorted(unknown))} has no counterpart in the other framework"
                ": leave the argument out, or compute it in a custom layer"
            )


def _given(function: str, name: str, value: Any) -> Any:
    if value is REQUIRED:
        raise RuleError(f"{function} is called without the required argument {name}: pass it")
    return value


def _equal(first: Any, second: Any) -> bool:
    """Return whether two argument values are equal; 0 and False count as different."""
    return isinstance(first, bool) == isinstance(second, bool) and bool(first == second)
