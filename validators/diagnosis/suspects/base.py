"""What a suspect is given, and what it says."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from keras3conv.frameworks.torch.replay import Change, Key, Operation
from keras3conv.transforms import Array, Shape

VIEWS = frozenset(
    {"view", "reshape", "transpose", "permute", "contiguous", "flatten", "unflatten", "squeeze", "unsqueeze", "detach"}
    | {"__get__", "to", "double", "float", "clone", "movedim", "swapaxes", "expand", "type_as"}
)
"""Functions that only move values: what may stand after one of them may as well stand before it."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """The place where two models part.

    Attributes:
        torch_path: The torch layer that differs, or is given something else; empty for the end of the model.
        keras_path: The Keras layer.
        inside: Whether the layer itself differs; else what stands before it does.
        keras_config: The configuration of the Keras layer, where the layer itself differs.
        operations: What torch calls there, in order: inside of the layer, or since the layers agreed last.
        before: Everything that torch calls before the layer.
        feeding: The operations, and what gave the first of them its input.
        classes: The class of every torch module, by path.
        keras_configs: The configurations of all Keras layers.
        flattened: What was flattened into the layer's input in torch, without the batch axis; None if nothing was.
        ratio: How many times what torch has Keras has, at best; None where torch has zeros only, or the shapes differ.
        found: What torch has there, in Keras' layout.
        wanted: What Keras has there.
        attempt: Runs torch with changes, and says what it has there then; None where that cannot be done.
        tensors: The shapes of torch's tensors, by path.
        read: Reads a torch tensor of this run.
    """

    torch_path: str
    keras_path: str
    inside: bool
    keras_config: Mapping[str, Any]
    operations: tuple[Operation, ...]
    before: tuple[Operation, ...]
    feeding: tuple[Operation, ...]
    classes: Mapping[str, str]
    keras_configs: tuple[Mapping[str, Any], ...]
    flattened: Shape | None
    ratio: float | None
    found: Array
    wanted: Array
    attempt: Callable[[Mapping[Key, Change]], Array | None]
    tensors: Mapping[str, Shape]
    read: Callable[[str], Array]

    @property
    def where(self) -> str:
        """Where in the torch module, in words."""
        return f"{'in' if self.inside else 'before'} {self.torch_path}" if self.torch_path else "at the end"

    @property
    def where_keras(self) -> str:
        """Where in the Keras model, in words."""
        return f"{'in' if self.inside else 'before'} {self.keras_path}" if self.keras_path else "at the end"

    def named(self, *names: str) -> Iterator[Operation]:
        """The operations with these names."""
        return (operation for operation in self.operations if operation.name in names)

    def in_keras(self, key: str) -> tuple[float, ...]:
        """The numbers that this argument of Keras' layers has: of the layer itself, or anywhere in the model."""
        configs = (self.keras_config,) if self.inside and key in self.keras_config else self.keras_configs
        found = [config[key] for config in configs if key in config]
        return tuple(dict.fromkeys(float(value) for value in found if isinstance(value, int | float)))


@dataclass(frozen=True, kw_only=True)
class Suspicion:
    """A cause in words, the line to paste, and what torch would have to compute otherwise.

    Attributes:
        cause: What the two sides do not share.
        fix: The line to paste.
        changes: What is computed in the place of an operation, by the operation's key.
        tensors: Values that stand in the place of torch's tensors, by path.
    """

    cause: str
    fix: str
    changes: Mapping[Key, Change] = field(default_factory=dict)
    tensors: Mapping[str, Array] = field(default_factory=dict)


@dataclass(frozen=True)
class Suspect:
    """One usual suspect.

    Attributes:
        name: What it is called.
        suspicions: From a case to what may be the matter there.
    """

    name: str
    suspicions: Callable[[Case], Iterator[Suspicion]]


def ints(value: Any, rank: int) -> tuple[int, ...]:
    """A number for every axis, whether one was given or several."""
    if isinstance(value, int):
        return (value,) * rank
    return tuple(int(number) for number in value) * (rank if len(value) == 1 else 1)


def same_padding(extent: int, size: int, stride: int, dilation: int) -> tuple[int, int]:
    """What Keras' "same" puts before and after an axis: the odd one at the end."""
    reach = dilation * (size - 1) + 1
    total = max(0, (-(-extent // stride) - 1) * stride + reach - extent)
    return total // 2, total - total // 2


def flat(pads: tuple[tuple[int, int], ...]) -> tuple[int, ...]:
    """Paddings (before, after) of every axis, as `torch.nn.functional.pad` takes them: the last axis first."""
    return tuple(side for before_after in reversed(pads) for side in before_after)


def running(**changed: Any) -> Change:
    """The same function, with some arguments changed."""
    return lambda call: call.run(**changed)


def doing(function: Callable[..., Any], *arguments: Any) -> Change:
    """Another function, which is given the call and these arguments."""
    return lambda call: function(call, *arguments)
