"""What a model is to us: named tensors, grouped by the layer that owns them.

A live module, a Keras model and a file of weights all look like this to the planner and to the transfer. What a side
does not know (a checkpoint has no classes, a weight file no configuration) is empty, never guessed.
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
    """A tensor by name: enough to plan with, no data.

    Attributes:
        path: The name that is unique in the model: "layer1.0.conv1.weight", "stack1/conv/kernel".
        role: What the layer calls it: "weight", "kernel".
        shape: Its shape.
        dtype: The name of its dtype, as numpy or ml_dtypes spell it: "float32", "bfloat16".
        trainable: Whether an optimiser would change it.
        storage: Tensors with an equal, non-empty storage are one tensor under several names.
        location: Where the weight file of this model keeps it, if that is not the path: the dataset
            "layers/conv2d/vars/0" of a Keras 3 file; empty where unknown.
        is_computed: Whether it is computed of other tensors, which a file holds in its place (weight norm).
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
        """Whether this is the state of a random generator: no weight, and in no weight file."""
        return self.role.rpartition("/")[2].startswith("seed_generator_state")


@dataclass(frozen=True, kw_only=True)
class LayerView:
    """A layer (a torch module, a Keras layer) with the tensors that are its own, not its children's.

    Attributes:
        path: The name of the layer in its model: "layer1.0.conv1", "stack1/conv"; empty for the model itself.
        kinds: Qualified class names, the most derived first ("timm.layers.BatchNormAct2d", "torch.nn.BatchNorm2d");
            empty where unknown.
        config: What its constructor was given: plain values by name; None where unknown.
        tensors: Its parameters and buffers, or variables, in the order of their creation.
        calls: At which places it runs in one call of the model; None where unknown, () if it never runs.
        inputs: Shapes of what its first call was given, batch axis included, None for unknown sizes; None where
            unknown.
        flattened: The shape, without the batch axis, of what was flattened into its input; empty where something was,
            of unknown shape; None where nothing was, or where that is unknown because `calls` is.
        follows: The layers whose outputs its inputs are made of, without another layer in between, over all of its
            calls; None where unknown.
        passes: The layers, before it and inside it, whose outputs its own output is made of; None where unknown.
        beside: The layers with tensors that are given the very same value as it is, itself included; None where
            unknown.
        attribute: What the layer that it is part of calls it ("forward_layer", "cell"), which is the same in every
            model, where names are not; empty where unknown.
        is_ordered: Whether its place among the layers of equal shapes means their order in the model; a file of
            weights may have frozen layers behind the others.
    """

    path: str
    kinds: tuple[str, ...] = ()
    config: Mapping[str, Any] | None = None
    tensors: tuple[TensorRef, ...] = ()
    calls: tuple[int, ...] | None = None
    inputs: tuple[tuple[int | None, ...], ...] | None = None
    flattened: Shape | None = None
    follows: tuple[str, ...] | None = None
    passes: tuple[str, ...] | None = None
    beside: tuple[str, ...] | None = None
    attribute: str = ""
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
    """What a model is called with.

    Attributes:
        shape: The shape of one input, batch first, None for free sizes.
        dtype: Its dtype.
        name: Its name.
        key: Its key where a live model takes a dict of inputs; empty elsewhere.
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
    """A model as named tensors. Reading a tensor's values is left to `read`, one at a time.

    Attributes:
        side: Which framework's names and layouts these are.
        name: What messages call it: a class name, a file name.
        layers: Every layer that has a place in the model, in definition order.
        origin: The file it was read from; empty for a live model.
        input_specs: What it is called with; empty where unknown.
        arguments: The names of what its call takes, where there are no such specifications: of a live Keras model
            whose call is code; empty elsewhere.
        facts: Anything worth a line in a report: format, writer's version.
        reader: Reads one tensor by its path.
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
        """The same names and shapes without access to values; ties are numbered instead of being addresses."""
        storages = [tensor.storage for tensor in self.tensors() if tensor.storage]
        shared = [storage for storage, times in Counter(storages).items() if times > 1]
        numbers = {storage: f"tie {number}" for number, storage in enumerate(shared, 1)}

        def renamed(layer: LayerView) -> LayerView:
            tensors = (replace(tensor, storage=numbers.get(tensor.storage, "")) for tensor in layer.tensors)
            return replace(layer, tensors=tuple(tensors))

        return replace(self, layers=tuple(map(renamed, self.layers)), reader=_no_values)

    def tensors(self) -> Iterator[TensorRef]:
        """Every tensor of every layer, in order."""
        for layer in self.layers:
            yield from layer.tensors

    def read(self, path: str) -> Array:
        """The values of one tensor, as a numpy array in its own dtype."""
        return self.reader(path)

    @property
    def title(self) -> str:
        """The name with the side: "ResNet (torch)"."""
        return f"{self.name} ({self.side})"

    @property
    def fingerprint(self) -> str:
        """A digest of names and shapes: a plan is for models with this fingerprint.

        The states of random generators do not count: a live model has them, a file of its weights does not.
        """
        lines = sorted(f"{tensor.path} {tensor.shape}" for tensor in self.tensors() if not tensor.is_seed)
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


class Reader(Protocol):
    """Reads the values of one tensor."""

    def __call__(self, path: str, /) -> Array:
        """The values of the tensor with this path."""
