"""Define a suspect: a function that gets the facts of a `Case` and proposes hypotheses about the cause."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from keras3conv.alignment.beside import only_at_size
from keras3conv.fixes import named_layer
from keras3conv.frameworks.torch.calls import Change, Key, Operation
from keras3conv.transforms import Array, Shape
from keras3conv.validators.running.transferred import TO_KERAS
from keras3conv.validators.running.zero_paddings import ZeroPadding

VIEWS = frozenset(
    {"view", "reshape", "transpose", "permute", "contiguous", "flatten", "unflatten", "squeeze", "unsqueeze", "detach"}
    | {"__get__", "to", "double", "float", "clone", "movedim", "swapaxes", "expand", "type_as"}
)
"""Operations that only move or cast values: an elementwise change has the same effect before and after these."""


@dataclass(frozen=True, kw_only=True)
class Point:
    """The point at which two models differ.

    Attributes:
        torch_path: The path of the torch layer that differs, or whose input differs; empty at the end of the model.
        keras_path: The path of the paired Keras layer.
        in_layer: Whether the layer itself differs; False if its input already differs.
    """

    torch_path: str
    keras_path: str
    in_layer: bool

    def in_words(self, path: str) -> str:
        """Describe the point by a layer path: "in block.0", "before head" or "at the end"."""
        if not path:
            return "at the end"
        return f"in {named_layer(path)}" if self.in_layer else f"before {named_layer(path)}"


@dataclass(frozen=True, kw_only=True)
class TorchSide:
    """The facts about torch at the point at which two models differ.

    Attributes:
        value: The value at the point, in Keras' layout.
        operations: The operations to search, in call order: the operations of the layer, or all operations since the
            last layer that agreed.
        operations_before: All operations before the layer.
        upstream: The operations to search, preceded by the one that computes the input of the first of them.
        classes: Class of every module, by path.
        flattened: The shape, without the batch axis, that was flattened to the layer's input; None if the input is not
            flattened.
        tensor_shapes: Shapes of the tensors, by path.
        read: Returns the values of a tensor in this run, by path.
    """

    value: Array
    operations: tuple[Operation, ...]
    operations_before: tuple[Operation, ...]
    upstream: tuple[Operation, ...]
    classes: Mapping[str, str]
    flattened: Shape | None
    tensor_shapes: Mapping[str, Shape]
    read: Callable[[str], Array]


@dataclass(frozen=True, kw_only=True)
class KerasSide:
    """The facts about Keras at the point at which two models differ.

    Attributes:
        value: The value at the point.
        config: Configuration of the layer, if the layer itself differs; else empty.
        configs: Configurations of all layers.
        masks: The masks that hide a time step, shape (batch, steps), by the last layer that received the mask.
        without_masks: The line of code that removes the layer, or the option, from which the masks come.
        zero_paddings: The padding layer right before each layer that has one, by the path of that layer.
    """

    value: Array
    config: Mapping[str, Any]
    configs: tuple[Mapping[str, Any], ...]
    masks: Mapping[str, Array] = field(default_factory=dict)
    without_masks: str = ""
    zero_paddings: Mapping[str, ZeroPadding] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class PlanFacts:
    """What is known about the plan, and about the weights that a transfer by this plan writes.

    Attributes:
        is_changed: Returns whether a torch layer and its Keras layer have other weights than those that the plan makes
            of each other, by torch path. It is False for every path in a run in which the plan set all weights.
        is_confirmed: Returns whether a run of both models confirmed the pair of a torch layer, or `convert` made it.
        partner: Returns the path of the Keras layer that is paired with a torch layer; empty if there is none.
    """

    is_changed: Callable[[str], bool] = lambda _: False
    is_confirmed: Callable[[str], bool] = lambda _: False
    partner: Callable[[str], str] = lambda _: ""


@dataclass(frozen=True, kw_only=True)
class Case:
    """A point at which two models differ, with the known facts about both sides, for the suspects.

    Attributes:
        point: The point.
        torch: The torch side.
        keras: The Keras side.
        rerun: Returns torch's value with changed operations; None if torch raises with these changes.
        plan: The facts about the plan.
    """

    point: Point
    torch: TorchSide
    keras: KerasSide
    rerun: Callable[[Mapping[Key, Change]], Array | None]
    plan: PlanFacts = field(default_factory=PlanFacts)

    @property
    def is_plan_right(self) -> bool:
        """True if only the weights of the layer can be wrong: the pair is confirmed, and they are not the plan's."""
        path = self.point.torch_path
        return self.point.in_layer and self.plan.is_confirmed(path) and self.plan.is_changed(path)

    def of_plan(self, line: str, comment: str = "") -> str:
        """Return a line that corrects the plan; if the plan is right, the line that transfers the weights again.

        Args:
            line: The line that corrects the plan.
            comment: What a user should know about this line.
        """
        if self.is_plan_right:
            return TO_KERAS
        return f"{line}  # {comment}" if comment else line

    def pair_again(self, comment: str = "") -> str:
        """Return the line that pairs the two layers, with a comment; or the line that transfers the weights again."""
        return self.of_plan(f'plan = plan.pair("{self.point.torch_path}", "{self.point.keras_path}")', comment)

    @cached_property
    def ratio(self) -> float | None:
        """The factor that brings torch's value closest to Keras' value (least squares); None if there is none."""
        if self.torch.value.shape != self.keras.value.shape:
            return None
        in_torch, in_keras = (side.value.astype(np.float64).ravel() for side in (self.torch, self.keras))
        square, product = float(in_torch @ in_torch), float(in_torch @ in_keras)
        return product / square if 0 < square < float("inf") and np.isfinite(product) else None

    def keras_path_of(self, operation: Operation) -> str:
        """Return the path of the Keras layer that is paired with the layer of a torch operation.

        If there is none, return the path of the Keras layer at the point of the difference.
        """
        partner = "" if self.point.in_layer else self.plan.partner(operation.owner)
        return partner or self.point.keras_path

    def keras_config_of(self, operation: Operation) -> Mapping[str, Any]:
        """Return the configuration of this Keras layer; empty if it is unknown."""
        if self.point.in_layer:
            return self.keras.config
        name = self.keras_path_of(operation).rpartition("/")[2]
        return next((config for config in self.keras.configs if config.get("name") == name), {})

    @property
    def where(self) -> str:
        """The point of the difference in the torch module, in words, such as "in block.0"."""
        return self.point.in_words(self.point.torch_path)

    @property
    def where_keras(self) -> str:
        """The point of the difference in the Keras model, in words, such as "in block_0"."""
        return self.point.in_words(self.point.keras_path)

    def place(self, operation: Operation) -> str:
        """Return the path of the module that calls an operation.

        If no module calls the operation, return the point of the difference in words.
        """
        return operation.owner or (operation.name if self._is_layer_itself else self.where)

    @property
    def _is_layer_itself(self) -> bool:
        """True if the whole torch module is a single layer, which has no path."""
        return self.torch.classes.get("", "").startswith("torch.nn.modules") and len(self.torch.classes) == 1

    def before(self, operation: Operation) -> str:
        """Return the location right before an operation, in words: "before pool", "before the call of max_pool2d"."""
        return f"before {operation.owner}" if operation.owner else f"before the call of {operation.name}"

    def as_in_torch(self, operation: Operation) -> str:
        """Return a comment for a line of Keras code that names the torch call to repeat there."""
        return f"# {self.where_keras}, as in torch: {_written(operation)}"

    def place_in_words(self, operation: Operation) -> str:
        """Return the location of an operation as part of a sentence: "in block.0" or "before head"."""
        return f"in {operation.owner}" if operation.owner else self.where

    def operations_named(self, *names: str) -> Iterator[Operation]:
        """Yield the torch operations, among those to search, that have one of the given names."""
        return (operation for operation in self.torch.operations if operation.name in names)

    def keras_numbers(self, key: str) -> tuple[float, ...]:
        """Return the numbers that the Keras layer has under a configuration key: (0.001,) for "epsilon".

        If the configuration of the layer has no such key, return the numbers of all Keras layers under this key.
        """
        configs = (self.keras.config,) if self.point.in_layer and key in self.keras.config else self.keras.configs
        values = [config[key] for config in configs if key in config]
        return tuple(dict.fromkeys(float(value) for value in values if isinstance(value, int | float)))


@dataclass(frozen=True, kw_only=True)
class Hypothesis:
    """A possible cause, and the change to torch that reproduces Keras' values if the cause is right.

    Attributes:
        cause: The difference between the two sides, in words.
        fix: The line to paste for the torch side, or one that makes or follows a plan; empty if there is none.
        keras: The line for the Keras side; empty if there is none.
        changes: Replacements of torch operations, by operation key.
        tensors: Replacements of torch tensors, by path.
    """

    cause: str
    fix: str = ""
    keras: str = ""
    changes: Mapping[Key, Change] = field(default_factory=dict)
    tensors: Mapping[str, Array] = field(default_factory=dict)


@dataclass(frozen=True)
class Suspect:
    """A suspect: a kind of mistake that can explain why two models differ.

    Attributes:
        name: A short description, unique among the suspects.
        hypotheses: Proposes the hypotheses that fit a case.
    """

    name: str
    hypotheses: Callable[[Case], Iterator[Hypothesis]]


def _written(operation: Operation) -> str:
    """Return a torch call as source code, without its tensors, such as "max_pool2d(kernel_size=3, stride=2)"."""
    arguments = [
        f"{value!r}" if name.isdigit() else f"{name}={value!r}"
        for name, value in operation.arguments.items()
        if not isinstance(value, tuple) and value is not None and not _has_tensors(value)
    ]
    return f"{operation.name}({', '.join(arguments)})"


def _has_tensors(value: Any) -> bool:
    """Return whether a list of recorded arguments contains a tensor, which is recorded as its shape (a tuple)."""
    return isinstance(value, list) and any(isinstance(item, tuple) or _has_tensors(item) for item in value)


def ints(value: Any, rank: int) -> tuple[int, ...]:
    """Return one integer per axis: (3, 3) for the value 3 or [3] of two axes, (3, 5) for [3, 5]."""
    if isinstance(value, int):
        return (value,) * rank
    return tuple(int(number) for number in value) * (rank if len(value) == 1 else 1)


def flat(pads: tuple[tuple[int, int], ...]) -> tuple[int, ...]:
    """Return paddings as the argument of torch's `pad`, the last axis first: ((1, 2), (3, 4)) -> (3, 4, 1, 2).

    Args:
        pads: For each axis, the padding before and after it.
    """
    return tuple(side for before_after in reversed(pads) for side in before_after)


def only_at_this_size(operation: Operation, stride: tuple[int, ...]) -> str:
    """Return the end of a comment: at a stride above 1, the padding of "same" depends on the size of the input.

    Args:
        operation: A convolution or a pooling.
        stride: The stride along each axis of the window.
    """
    return only_at_size(tuple(operation.get("input")[-len(stride) :]), stride)


def with_arguments(**changed: Any) -> Change:
    """Return a change for a rerun of torch: the operation is called with other arguments."""
    return lambda call: call.run(**changed)


def replaced_by(function: Callable[..., Any], *arguments: Any) -> Change:
    """Return a change for a rerun of torch: another function is called in the place of the operation."""
    return lambda call: function(call, *arguments)
