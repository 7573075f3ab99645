"""Define the view of a model, which lists its layers with the names, shapes and dtypes of their tensors.

A live torch module, a live Keras model and a weight file all have a view. A field that the model or file does not
provide (a checkpoint has no classes, a weight file has no configuration) is empty, never guessed.
"""

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal, Protocol, TypeVar

from keras3conv.transforms import Array, Shape

Side = Literal["torch", "keras"]
_Made = TypeVar("_Made")
_new, _set = object.__new__, object.__setattr__


OTHER_STATE_DICTS = "with the same names and shapes"
"""The name of a fact of a torch file: the state dicts (or prefixes) that could have been read in place of this one."""


def made(kind: type[_Made], values: dict[str, Any]) -> _Made:
    """Return an instance of a frozen dataclass of this module, created four times as fast as by its constructor.

    A file may have 100,000 tensors, with a `TensorRef` for each.

    Args:
        kind: The class. Its defaults must be plain values; a `default_factory` would not be called.
        values: The values of the fields; the dict becomes the `__dict__` of the instance. Fields without a default must
            be among them; nothing is checked.
    """
    instance = _new(kind)
    _set(instance, "__dict__", values)  # a field that is missing here is found in the class
    return instance


@dataclass(frozen=True, kw_only=True)
class TensorRef:
    """A tensor by name, without its values.

    Attributes:
        path: The unique name in the model: "layer1.0.conv1.weight", "stack1/conv/kernel".
        role: The name in the layer: "weight", "kernel".
        shape: The shape.
        dtype: The name of the dtype, as in numpy or ml_dtypes: "float32", "bfloat16".
        trainable: Whether an optimiser would change the tensor.
        storage: Identifies the memory of tied weights: tensors with an equal, non-empty storage are one tensor.
        location: The path of the dataset in a Keras 3 weight file, "layers/conv2d/vars/0"; empty if unknown.
        is_computed: Whether the tensor is computed from other tensors, which a file contains instead (weight norm).
    """

    path: str
    role: str
    shape: Shape
    dtype: str = "float32"
    trainable: bool = True
    storage: str = ""
    location: str = ""
    is_computed: bool = False

    @property
    def is_seed(self) -> bool:
        """True if the tensor is the state of a random generator, such as that of a Dropout; weight files lack these."""
        return self.role.rpartition("/")[2].startswith("seed_generator_state")


@dataclass(frozen=True, kw_only=True)
class LayerRun:
    """Facts about a layer from a run of the model or from a functional Keras graph. A fact is None if it is unknown.

    Attributes:
        calls: The positions of the layer's calls among all calls of the model; () if the layer is never called.
        inputs: The shapes of the inputs of the first call, with the batch axis; None for dynamic sizes.
        flattened: If the layer's input is a flattened tensor, the shape of this tensor before, without the batch axis;
            () if that shape is unknown. None also if the input was not flattened.
        follows: The direct predecessors: the layers whose outputs reach this layer's inputs without another layer in
            between, over all calls.
        passes: The layers, before this layer and inside it, whose outputs this layer's output depends on.
        beside: The layers with weights that receive the same input tensor, including this layer.
    """

    calls: tuple[int, ...] | None = None
    inputs: tuple[tuple[int | None, ...], ...] | None = None
    flattened: Shape | None = None
    follows: tuple[str, ...] | None = None
    passes: tuple[str, ...] | None = None
    beside: tuple[str, ...] | None = None

    @property
    def first_call(self) -> int:
        """The position of the first call; 0 if the position is unknown or the layer is never called."""
        return self.calls[0] if self.calls else 0


@dataclass(frozen=True, kw_only=True)
class LayerView:
    """A layer (a torch module or a Keras layer) with its own tensors, without the tensors of its children.

    Attributes:
        path: The unique name in the model: "layer1.0.conv1", "stack1/conv"; empty for the model itself.
        kinds: Qualified class names, the most derived first ("timm.layers.BatchNormAct2d", "torch.nn.BatchNorm2d");
            empty if unknown.
        config: The arguments of the constructor by name, as plain values; None if unknown.
        tensors: The parameters and buffers (torch) or variables (Keras), in the order of their creation.
        attribute: The attribute of the parent layer that contains the layer ("forward_layer", "cell"). Unlike a name,
            it is the same in every model. Empty if unknown.
        run: The calls and inputs of the layer, from a run of the model or from a functional Keras graph.
        is_ordered: Whether layers of equal shapes are listed in the order that they have in the model. False for a
            weight file in which frozen layers may follow the others.
    """

    path: str
    kinds: tuple[str, ...] = ()
    config: Mapping[str, Any] | None = None
    tensors: tuple[TensorRef, ...] = ()
    attribute: str = ""
    run: LayerRun = LayerRun()
    is_ordered: bool = True

    @property
    def kind(self) -> str:
        """The name of the layer's own class, not of a base class; empty if unknown."""
        return self.kinds[0] if self.kinds else ""

    @property
    def shapes(self) -> dict[str, Shape]:
        """The shapes of the layer's tensors, by their names in the layer ("weight", "kernel")."""
        return {tensor.role: tensor.shape for tensor in self.tensors}


@dataclass(frozen=True, kw_only=True)
class InputSpec:
    """One input of a model.

    Attributes:
        shape: The shape with the batch axis first; None for dynamic sizes.
        dtype: The name of the dtype.
        name: The name of the input.
        key: The key of the input if a live model takes a dict of inputs; else empty.
        padding: The value that a layer of the model masks as padding; None where no layer masks.
        is_optional: Whether a live model can be called without this input.
    """

    shape: tuple[int | None, ...]
    dtype: str = "float32"
    name: str = ""
    key: str = field(default="", compare=False)
    padding: float | None = field(default=None, compare=False)
    is_optional: bool = field(default=False, compare=False)

    @property
    def argument(self) -> str:
        """The name under which an array is given to the input: its key, or else its name."""
        return self.key or self.name


def _no_values(path: str, /) -> Array:
    raise LookupError(
        f"the values of the tensor {path} are not known: this model was given by names and shapes only"
        "; use the live model or the file"
    )


@dataclass(frozen=True, kw_only=True)
class ModelView:
    """The view of a model or a weight file: its layers and named tensors. `read` returns the values of one tensor.

    Attributes:
        side: The framework, "torch" or "keras", whose names and memory layouts are used.
        name: The name for messages: a class name or a file name.
        layers: Every layer of the model, in definition order.
        origin: The file that it was read from; empty for a live model.
        input_specs: The inputs of the model; empty where unknown.
        arguments: The parameters of `forward` of a live torch module, or of `call` of a subclassed live Keras model,
            which has no input specifications.
        required: The number of arguments of a live torch module that have no default.
        keywords: The names under which `forward` of a live torch module takes arguments; empty if it takes any name.
        mask_values: The input values that layers of a live Keras model mask: 0 for tokens that are padding.
        facts: Facts for a report: the format, the version of the writer.
        reader: Reads the values of one tensor by its path.
    """

    side: Side
    name: str
    layers: Sequence[LayerView]
    reader: "Reader" = field(default=_no_values, repr=False, compare=False)
    origin: str = ""
    input_specs: tuple[InputSpec, ...] = ()
    arguments: tuple[str, ...] = field(default=(), compare=False)
    required: int = field(default=0, compare=False)
    keywords: tuple[str, ...] = field(default=(), compare=False)
    mask_values: tuple[float, ...] = field(default=(), compare=False)
    facts: Mapping[str, str] = field(default_factory=dict)

    def outline(self) -> "ModelView":
        """Return a copy of the view without access to values, as for a plan: only names, classes and shapes.

        The `storage` of tied weights is "tie 1", "tie 2" and so on in place of a memory address.
        """
        storages = [tensor.storage for tensor in self.tensors() if tensor.storage]
        shared = [storage for storage, times in Counter(storages).items() if times > 1]
        numbers = {storage: f"tie {number}" for number, storage in enumerate(shared, 1)}

        def renamed(layer: LayerView) -> LayerView:
            tensors = (replace(tensor, storage=numbers.get(tensor.storage, "")) for tensor in layer.tensors)
            return replace(layer, tensors=tuple(tensors))

        return replace(self, layers=tuple(map(renamed, self.layers)), reader=_no_values)

    def tensors(self) -> Iterator[TensorRef]:
        """Yield every tensor of every layer, in the order of `layers` and of their `tensors`."""
        for layer in self.layers:
            yield from layer.tensors

    def read(self, path: str) -> Array:
        """Return the values of one tensor as a numpy array with the tensor's dtype."""
        return self.reader(path)

    @property
    def title(self) -> str:
        """The name of the model and its side, for messages, such as "ResNet (torch)"."""
        return f"{self.name} ({self.side})"

    @property
    def state_dict(self) -> str:
        """The name of the state dict that the tensors are from, if a checkpoint holds it under a name: "ema"."""
        return self.facts.get("state dict", "")

    @property
    def notes(self) -> tuple[str, ...]:
        """A note for a report if the file has other state dicts that could have been read instead; else nothing."""
        others = self.facts.get(OTHER_STATE_DICTS, "").split(", ")
        if not others[0]:
            return ()
        several = "other state dicts" if len(others) > 1 else "another state dict"
        asked = "" if self.state_dict else f'; entry="{others[0]}" reads {"the first" if others[1:] else "it"}'
        names = ", ".join(others)
        return (f"{self.name} has {several} with the same names and shapes, not read here: {names}{asked}",)

    @cached_property
    def fingerprint(self) -> str:
        """The digest of the paths and shapes of all tensors; a plan is valid for models with an equal digest.

        The states of random generators are left out: a live model has them, a weight file does not.
        """
        lines = sorted(f"{tensor.path} {tensor.shape}" for tensor in self.tensors() if not tensor.is_seed)
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


class Reader(Protocol):
    """A function that reads the values of one tensor of a model or file, given the path of the tensor."""

    def __call__(self, path: str, /) -> Array:
        """Return the values of one tensor as a numpy array.

        Args:
            path: The path of the tensor, such as "layer1.0.conv1.weight".
        """


def plain(value: Any) -> bool:
    """Return True if a value is a number, a string, a boolean, None, or a sequence of these."""
    if isinstance(value, tuple | list):
        return all(plain(item) for item in value)
    return value is None or isinstance(value, bool | int | float | str)
