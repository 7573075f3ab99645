"""Describe a model as named tensors, grouped by the layer that owns them.

The planner and the transfer see a live module, a Keras model and a weight file in this form. A fact that a side does
not provide (a checkpoint has no classes, a weight file no configuration) is empty, never guessed.
"""

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Protocol

from keras3conv.transforms import Array, Shape

Side = Literal["torch", "keras"]


@dataclass(frozen=True, kw_only=True)
class TensorRef:
    """A tensor by name, without its values.

    Attributes:
        path: Its unique name in the model: "layer1.0.conv1.weight", "stack1/conv/kernel".
        role: Its name in the layer: "weight", "kernel".
        shape: Its shape.
        dtype: The name of its dtype, as numpy or ml_dtypes spell it: "float32", "bfloat16".
        trainable: Whether an optimiser would change it.
        storage: Identifies the memory of tied weights: tensors with an equal, non-empty storage are one tensor.
        location: The name of its dataset in a Keras 3 weight file, "layers/conv2d/vars/0"; empty where unknown.
        is_computed: Whether it is computed from other tensors, which a file holds in its place (weight norm).
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
        """Whether this is the state of a random generator, which no weight file holds."""
        return self.role.rpartition("/")[2].startswith("seed_generator_state")


@dataclass(frozen=True, kw_only=True)
class LayerRun:
    """Facts about a layer that a call of its model shows, or a functional graph; None where a fact is unknown.

    Attributes:
        calls: The positions of the layer's calls among all calls of the model; () if it is never called.
        inputs: The shapes of the inputs of its first call, batch axis included, None for free sizes.
        flattened: The shape, without the batch axis, of the tensor that was flattened into its input; () if a tensor
            of unknown shape was flattened. None also where nothing was flattened.
        follows: The layers whose outputs its inputs are computed from without another layer in between, over all
            calls.
        passes: The layers, before it and inside it, whose outputs its own output is computed from.
        beside: The layers with tensors that receive the very same input tensor, itself included.
    """

    calls: tuple[int, ...] | None = None
    inputs: tuple[tuple[int | None, ...], ...] | None = None
    flattened: Shape | None = None
    follows: tuple[str, ...] | None = None
    passes: tuple[str, ...] | None = None
    beside: tuple[str, ...] | None = None

    @property
    def first_call(self) -> int:
        """The position of the first call; 0 where it is unknown or the layer is never called."""
        return self.calls[0] if self.calls else 0


@dataclass(frozen=True, kw_only=True)
class LayerView:
    """A layer (a torch module, a Keras layer) with its own tensors, without those of its children.

    Attributes:
        path: Its unique name in the model: "layer1.0.conv1", "stack1/conv"; empty for the model itself.
        kinds: Qualified class names, the most derived first ("timm.layers.BatchNormAct2d", "torch.nn.BatchNorm2d");
            empty where unknown.
        config: The arguments of its constructor, as plain values by name; None where unknown.
        tensors: Its parameters and buffers, or variables, in the order of their creation.
        attribute: The attribute of the parent layer that holds it ("forward_layer", "cell"): the same in every model,
            unlike names; empty where unknown.
        run: Facts that only a call of the model, or a functional graph, shows.
        is_ordered: Whether its position among layers of equal shapes is their order in the model; in a file of weights
            frozen layers may stand behind the others.
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
        """The most derived class name; empty where unknown."""
        return self.kinds[0] if self.kinds else ""

    @property
    def shapes(self) -> dict[str, Shape]:
        """The shape of every tensor, by role."""
        return {tensor.role: tensor.shape for tensor in self.tensors}


@dataclass(frozen=True, kw_only=True)
class InputSpec:
    """One input of a model.

    Attributes:
        shape: Its shape, batch first, None for free sizes.
        dtype: Its dtype.
        name: Its name.
        key: Its key where a live model takes a dict of inputs; else empty.
        padding: The value that a layer of the model masks as padding; None where no layer masks.
    """

    shape: tuple[int | None, ...]
    dtype: str = "float32"
    name: str = ""
    key: str = field(default="", compare=False)
    padding: float | None = field(default=None, compare=False)


def _no_values(path: str, /) -> Array:
    raise LookupError(f"{path}: an outline has names and shapes, no values")


@dataclass(frozen=True, kw_only=True)
class ModelView:
    """A model as named tensors. `read` returns the values of one tensor at a time.

    Attributes:
        side: The framework of the names and memory layouts.
        name: The name for messages: a class name, a file name.
        layers: Every layer of the model, in definition order.
        origin: The file that it was read from; empty for a live model.
        input_specs: The inputs of the model; empty where unknown.
        arguments: The parameters of `call` of a subclassed live Keras model, which has no input specifications.
        facts: Facts for a report: the format, the version of the writer.
        reader: Reads the values of one tensor by its path.
    """

    side: Side
    name: str
    layers: tuple[LayerView, ...]
    reader: "Reader" = field(default=_no_values, repr=False, compare=False)
    origin: str = ""
    input_specs: tuple[InputSpec, ...] = ()
    arguments: tuple[str, ...] = field(default=(), compare=False)
    facts: Mapping[str, str] = field(default_factory=dict)

    def outline(self) -> "ModelView":
        """Return the same names and shapes without access to values; tied weights get numbers instead of addresses."""
        storages = [tensor.storage for tensor in self.tensors() if tensor.storage]
        shared = [storage for storage, times in Counter(storages).items() if times > 1]
        numbers = {storage: f"tie {number}" for number, storage in enumerate(shared, 1)}

        def renamed(layer: LayerView) -> LayerView:
            tensors = (replace(tensor, storage=numbers.get(tensor.storage, "")) for tensor in layer.tensors)
            return replace(layer, tensors=tuple(tensors))

        return replace(self, layers=tuple(map(renamed, self.layers)), reader=_no_values)

    def tensors(self) -> Iterator[TensorRef]:
        """Yield every tensor of every layer, in order."""
        for layer in self.layers:
            yield from layer.tensors

    def read(self, path: str) -> Array:
        """Return the values of one tensor, as a numpy array in its own dtype."""
        return self.reader(path)

    @property
    def title(self) -> str:
        """The name with the side: "ResNet (torch)"."""
        return f"{self.name} ({self.side})"

    @property
    def fingerprint(self) -> str:
        """The digest of names and shapes; a plan fits models with equal fingerprints.

        The states of random generators do not count: a live model has them, a weight file does not.
        """
        lines = sorted(f"{tensor.path} {tensor.shape}" for tensor in self.tensors() if not tensor.is_seed)
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


class Reader(Protocol):
    """Reads the values of one tensor."""

    def __call__(self, path: str, /) -> Array:
        """Return the values of the tensor with this path."""
