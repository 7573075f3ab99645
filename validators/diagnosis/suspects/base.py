"""Define what a suspect is: it reads a `Case` and proposes hypotheses, each with the change that would prove it."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from keras3conv.frameworks.torch.replay import Change, Key, Operation
from keras3conv.transforms import Array, Shape

VIEWS = frozenset(
    {"view", "reshape", "transpose", "permute", "contiguous", "flatten", "unflatten", "squeeze", "unsqueeze", "detach"}
    | {"__get__", "to", "double", "float", "clone", "movedim", "swapaxes", "expand", "type_as"}
)
"""Operations that only move or cast values: an elementwise change after one of them is the same as before it."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """The point where two models differ, and what is known of it.

    Attributes:
        torch_path: The torch layer that differs, or whose input does; empty at the end of the model.
        keras_path: The Keras layer.
        in_layer: The layer itself differs; else its input does.
        keras_config: Configuration of the Keras layer, if the layer itself differs.
        operations: The torch operations to search, in call order: those of the layer, or those since the last layer
            that agreed.
        operations_before: All torch operations before the layer.
        upstream: The operations to search, and the one whose result is their input.
        torch_classes: Class of every torch module, by path.
        keras_configs: Configurations of all Keras layers.
        flattened: Shape that torch flattened into the layer's input, without the batch axis; None if it did not.
        ratio: Factor that brings torch's value closest to Keras'; None if torch's is zero or the shapes differ.
        torch_value: Torch's value at this point, in Keras' layout.
        keras_value: Keras' value at this point.
        rerun: Returns torch's value with changed operations; None if torch does not run with them.
        tensor_shapes: Shapes of torch's tensors, by path.
        read: Reads a torch tensor of this run.
    """

    torch_path: str
    keras_path: str
    in_layer: bool
    keras_config: Mapping[str, Any]
    operations: tuple[Operation, ...]
    operations_before: tuple[Operation, ...]
    upstream: tuple[Operation, ...]
    torch_classes: Mapping[str, str]
    keras_configs: tuple[Mapping[str, Any], ...]
    flattened: Shape | None
    ratio: float | None
    torch_value: Array
    keras_value: Array
    rerun: Callable[[Mapping[Key, Change]], Array | None]
    tensor_shapes: Mapping[str, Shape]
    read: Callable[[str], Array]

    @property
    def where(self) -> str:
        """The point in the torch module, in words."""
        return self._in_words(self.torch_path)

    @property
    def where_keras(self) -> str:
        """The point in the Keras model, in words."""
        return self._in_words(self.keras_path)

    def _in_words(self, path: str) -> str:
        if not path:
            return "at the end"
        return f"in {path}" if self.in_layer else f"before {path}"

    def place(self, operation: Operation) -> str:
        """Return the module that calls an operation, or else the point of this case in words."""
        return operation.owner or self.where

    def place_in_words(self, operation: Operation) -> str:
        """Return the same for the middle of a sentence: "in block.0" or "before head"."""
        return f"in {operation.owner}" if operation.owner else self.where

    def operations_named(self, *names: str) -> Iterator[Operation]:
        """Yield the operations to search that have one of these names."""
        return (operation for operation in self.operations if operation.name in names)

    def keras_numbers(self, key: str) -> tuple[float, ...]:
        """Return the numbers that a config key has in the Keras layer, or else in any Keras layer of the model."""
        configs = (self.keras_config,) if self.in_layer and key in self.keras_config else self.keras_configs
        values = [config[key] for config in configs if key in config]
        return tuple(dict.fromkeys(float(value) for value in values if isinstance(value, int | float)))


@dataclass(frozen=True, kw_only=True)
class Hypothesis:
    """A possible cause, and the change to torch that reproduces Keras' values if it is the true one.

    Attributes:
        cause: What differs between the two sides, in words.
        fix: The line to paste.
        changes: Replacements of torch operations, by operation key.
        tensors: Replacements of torch tensors, by path.
    """

    cause: str
    fix: str
    changes: Mapping[Key, Change] = field(default_factory=dict)
    tensors: Mapping[str, Array] = field(default_factory=dict)


@dataclass(frozen=True)
class Suspect:
    """A kind of mistake.

    Attributes:
        name: A short description, unique among the suspects.
        hypotheses: Proposes the hypotheses that fit a case.
    """

    name: str
    hypotheses: Callable[[Case], Iterator[Hypothesis]]


def ints(value: Any, rank: int) -> tuple[int, ...]:
    """Return one integer per axis from a single integer or a sequence."""
    if isinstance(value, int):
        return (value,) * rank
    return tuple(int(number) for number in value) * (rank if len(value) == 1 else 1)


def flat(pads: tuple[tuple[int, int], ...]) -> tuple[int, ...]:
    """Return paddings (before, after) per axis in the order of `torch.nn.functional.pad`: the last axis first."""
    return tuple(side for before_after in reversed(pads) for side in before_after)


def with_arguments(**changed: Any) -> Change:
    """Replace an operation by itself with changed arguments."""
    return lambda call: call.run(**changed)


def replaced_by(function: Callable[..., Any], *arguments: Any) -> Change:
    """Replace an operation by a function of the call and of further arguments."""
    return lambda call: function(call, *arguments)
