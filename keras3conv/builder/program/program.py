"""A torch module as data, before it is text: submodules, and the statements of `forward` in their order."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from keras3conv.model.graph import Shape
from keras3conv.rules.rule import LayerSpec
from keras3conv.transforms import Array

Order = tuple[int, ...]
"""Which axis of Keras stands at each place in torch: (0, 3, 1, 2) for an image with its channels second."""


def identity(rank: int) -> Order:
    """The axes as Keras has them."""
    return tuple(range(rank))


def channels_first(rank: int) -> Order:
    """The last axis second; with two axes or fewer, as they are."""
    return identity(rank) if rank < 3 else (0, rank - 1, *range(1, rank - 1))


@dataclass(frozen=True, kw_only=True)
class Value:
    """A tensor of the torch module.

    Attributes:
        name: Unique in the program.
        shape: Its sizes in the axes of Keras; those of torch follow from the order.
        order: Which axis of Keras stands at each place.
        dtype: The name of its dtype.
        flattened: Its features were flattened from this shape of torch, (channels, *places), and Keras has them in
            another order; empty where both have one order. Only the kernel of a Linear may meet such a value.
    """

    name: str
    shape: Shape
    order: Order
    dtype: str = "float32"
    flattened: tuple[int, ...] = ()

    @property
    def rank(self) -> int:
        """The number of axes."""
        return len(self.shape)

    @property
    def torch_shape(self) -> Shape:
        """The sizes as torch has them."""
        return tuple(self.shape[axis] for axis in self.order)

    def place(self, axis: int) -> int:
        """Where an axis of Keras, counted from either end, stands in torch."""
        return self.order.index(axis % self.rank)


@dataclass(frozen=True, kw_only=True)
class Module:
    """A submodule.

    Attributes:
        name: Its name in the module: "conv1".
        spec: Its torch class and the arguments of its constructor.
        keras: The path of the Keras layer whose tensors it holds; empty where it holds none.
        rule: The name of the rule that it comes from.
        flattened: What was flattened into it, in torch's order.
        trainable: Whether an optimiser changes its parameters.
    """

    name: str
    spec: LayerSpec
    keras: str = ""
    rule: str = ""
    flattened: tuple[int, ...] = ()
    trainable: bool = True


@dataclass(frozen=True, kw_only=True)
class Weight:
    """A parameter or a buffer that is the module's own.

    Attributes:
        name: Its name in the module.
        shape: Its sizes.
        keras: The path of the Keras variable that it is; empty for a constant.
        array: The values of a constant.
        dtype: The name of its dtype.
        trainable: Whether an optimiser changes it. What is not trainable is a buffer.
    """

    name: str
    shape: tuple[int, ...]
    keras: str = ""
    dtype: str = "float32"
    trainable: bool = True
    array: Array | None = field(default=None, repr=False, compare=False)


@dataclass(frozen=True, kw_only=True)
class Step:
    """A statement of `forward`.

    Attributes:
        template: Its right side: "{module}({0})", "torch.cat([{0}, {1}], dim=1)", "{0}.reshape({batch}, -1)". Numbers
            stand for the inputs, `module` for the submodule, names for free sizes.
        inputs: The names of the values that it uses.
        outputs: The names of the values that it makes.
        module: The submodule that it calls; empty where it calls none.
        path: The path of the Keras layer or operation that it comes from.
        comment: Why it is there, where that needs to be said.
        overwrites: Whether the sum that it makes may stand where its first input stood, which nobody needs afterwards.
        calls: The calls of layers that it stands in; see `graph.Node.calls`.
    """

    template: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    module: str = ""
    path: str = ""
    comment: str = ""
    overwrites: bool = False
    calls: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Program:
    """A torch module.

    Attributes:
        name: The Keras model's name.
        inputs: What `forward` is given.
        input_names: What Keras calls the inputs, by their values.
        steps: The statements.
        outputs: How what it returns is nested, with `Ref`s to values.
        output_orders: In which order the axes of each output stand.
        values: Every value by its name.
        modules: The submodules by their names.
        weights: Its own parameters and buffers by the names of the values that they are.
        sizes: For every free size the value and the place that tell it.
    """

    name: str
    inputs: tuple[Value, ...]
    steps: tuple[Step, ...]
    outputs: object
    values: Mapping[str, Value]
    modules: Mapping[str, Module] = field(default_factory=dict)
    weights: Mapping[str, Weight] = field(default_factory=dict)
    sizes: Mapping[str, tuple[str, int]] = field(default_factory=dict)
    input_names: Mapping[str, str] = field(default_factory=dict)
    output_orders: tuple[Order, ...] = ()
