"""Define a rule: the correspondence of one torch layer and one Keras layer, as a value that works both ways.

One `register(Rule(...))` in one file of `rules/families` gives transfer both ways, configuration both ways, the audit
of hyper-parameters, a row in the generated table and every law as a test. Rules name classes by their qualified names,
so this module imports no framework.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from keras3conv.model.views import LayerView, Side
from keras3conv.transforms import Array, Arrays, Shape, Transform

Config = Mapping[str, Any]

Fields = Mapping[str, str | tuple[str, ...]]
"""Torch attributes, each with the Keras argument or arguments that say the same; empty where there is none."""

Layout = Literal["same", "channels", "time"]
"""The axes of torch compared with Keras: the same, channels second instead of last, or time before the batch."""


@dataclass(frozen=True, kw_only=True)
class WeightMapping:
    """Tensors of torch, tensors of Keras, and the transform from the first to the second.

    In a rule the names are roles ("weight", "kernel"); in a plan they are full paths ("fc.weight", "fc/kernel").

    Attributes:
        torch: The torch names, in the order of the transform's arguments.
        keras: The Keras names, in the order of the transform's results.
        transform: From torch to Keras; its inverse leads back.
    """

    torch: tuple[str, ...]
    keras: tuple[str, ...]
    transform: Transform

    def names(self, side: Side) -> tuple[str, ...]:
        """Return the names on one side."""
        return self.torch if side == "torch" else self.keras


@dataclass(frozen=True, kw_only=True)
class LayerSpec:
    """A layer as data, enough to construct it.

    Attributes:
        kind: The qualified class name.
        config: The constructor's arguments.
        shapes: The shapes of its tensors, by role. Rules leave them out: `specs_with_shapes` derives them.
        inputs: The shapes of its inputs, batch axis first, None for free sizes; empty where unknown.
    """

    kind: str
    config: Config = field(default_factory=dict)
    shapes: Mapping[str, Shape] = field(default_factory=dict, compare=False)
    inputs: tuple[tuple[int | None, ...], ...] = field(default=(), compare=False)


LayerSpecs = tuple[LayerSpec, ...]


@dataclass(frozen=True, kw_only=True)
class Example:
    """A torch layer and an input for it; the laws are tested with them.

    Attributes:
        config: Arguments of the torch constructor.
        inputs: The shape of every input, in torch's layout, batch axis first.
        integers: For inputs that are indices, the number of values; 0 for real inputs.
        canonical: Whether the configuration comes back unchanged. False for one that comes back in an equivalent form:
            `padding="same"` as `padding=1`.
        keras: The Keras layer with its shapes, for rules that need it: torch does not know the number of heads.
    """

    config: Config
    inputs: tuple[Shape, ...]
    integers: int = 0
    canonical: bool = True
    keras: LayerSpec | None = None

    @property
    def beyond(self) -> Config:
        """The shapes of the inputs and the Keras layer, which a rule may need beside the torch configuration."""
        return {"inputs": self.inputs, **({} if self.keras is None else {"keras": self.keras})}


def _always(config: Config) -> bool:
    return True


def _nothing(config: Config) -> tuple[WeightMapping, ...]:
    return ()


@dataclass(frozen=True, kw_only=True)
class Rule:
    """The correspondence of one torch class and one Keras class.

    Attributes:
        torch: The qualified name of the torch class: "torch.nn.Conv2d". It also applies to subclasses.
        keras: The qualified name of the Keras class: "keras.layers.DepthwiseConv2D".
        fields: The attributes of the torch module that make its configuration, each with the Keras argument that says
            the same. A tuple of the attributes alone will do: then the audit finds the arguments by trial.
        weights: From the torch configuration to the mappings, in the order in which Keras creates its variables. A
            mapping is dropped if neither side has its tensors (no bias).
        applies: Whether the rule is for this torch configuration; chooses among several Keras classes.
        to_keras: From the torch configuration to the Keras layers that compute the same, in sequence.
        to_torch: The way back, from the layers that `to_keras` makes, with the shapes of their tensors.
        layout: The order of the axes: "channels" if torch's second axis is Keras' last (for three axes and more, and
            unless the Keras layer has `data_format="channels_first"`), "same" if both have the same order, "time" if
            torch has the time axis first and the batch second. It may depend on the configuration.
        output: From torch's outputs, both configurations and the shape that Keras returned to the output in the form
            of Keras; by default the first array in Keras' layout.
        part: From the output of the Keras layer and both configurations to the part that the torch layer returns,
            where a layer after it removes the rest.
        torch_count: The number of torch layers; 0 for any. Their roles are numbered, "0.weight", "1.weight", and so
            are their configurations: {"0": ..., "1": ...}.
        keras_count: The number of Keras layers, likewise: "0/kernel", "1/kernel".
        parallel: Whether the several layers take the same input and their outputs are joined along the last axis
            (query, key and value); otherwise they run in sequence.
        between: The code between the several torch layers that no layer represents (the scores of an attention). Such
            a rule is for weights only.
        torch_arguments: From the arrays of an example to the positional arguments of the torch layer.
        keras_arguments: From the same arrays, in Keras' layout, to those of the Keras layer.
        aliases: Names that older Keras files use for a variable, and today's name.
        ignored: Torch tensors (by role) without a counterpart, each with the reason.
        examples: Torch layers to test the laws with; adversarial: all sizes differ, options on and off.
        train: Whether the two agree in training mode too.
        fallback: Whether other rules for the same layers are preferred to this one.
        variant: The name that distinguishes this rule from another for the same two classes: "patches". It is used
            only where the configuration of the torch layer is known and `applies` returns true.
        note: Remarks for the user; a loss is declared here.
        origin: The file and line of the rule, for messages.
    """

    torch: str
    keras: str
    fields: Fields | tuple[str, ...]
    to_keras: Callable[[Config], LayerSpecs]
    to_torch: Callable[[LayerSpecs], LayerSpecs]
    examples: tuple[Example, ...]
    weights: Callable[[Config], tuple[WeightMapping, ...]] = _nothing
    applies: Callable[[Config], bool] = _always
    layout: Layout | Callable[[Config], Layout] = "same"
    output: Callable[[Arrays, Config, Config, Shape], Array] | None = None
    part: Callable[[Array, Config, Config], Array] | None = None
    torch_count: int = 1
    keras_count: int = 1
    parallel: bool = False
    between: str = ""
    torch_arguments: Callable[[tuple[Any, ...]], tuple[Any, ...]] = tuple
    keras_arguments: Callable[[tuple[Any, ...]], tuple[Any, ...]] = tuple
    aliases: Mapping[str, str] = field(default_factory=dict)
    ignored: Mapping[str, str] = field(default_factory=dict)
    train: bool = False
    fallback: bool = False
    variant: str = ""
    note: str = ""
    origin: str = field(default="", compare=False)

    @property
    def name(self) -> str:
        """The two class names: "torch.nn.Linear <-> keras.layers.Dense"; unique among the registered rules."""
        variant = f" ({self.variant})" if self.variant else ""
        return f"{_times(self.torch_count)}{self.torch} <-> {_times(self.keras_count)}{self.keras}{variant}"

    def layout_for(self, config: Config) -> Layout:
        """Return the layout for a torch configuration."""
        return self.layout(config) if callable(self.layout) else self.layout

    @property
    def correspondences(self) -> dict[str, tuple[str, ...]] | None:
        """The Keras arguments for each torch attribute; None if the rule does not declare them."""
        if not isinstance(self.fields, Mapping):
            return None
        return {torch: (keras,) if isinstance(keras, str) else keras for torch, keras in self.fields.items() if keras}

    def may_apply(self, layer: LayerView) -> bool:
        """Return whether the rule may be for this torch layer; without a configuration (a file) it may."""
        return layer.config is None or self.applies(self.config_of(layer))

    def config_of(self, layer: LayerView) -> Config:
        """Return the fields of a torch layer that the rule reads; of several layers, by their numbers."""
        config = layer.config or {}
        if self.torch_count == 1:
            return self._fields_of(config)
        return {number: self._fields_of(part) for number, part in config.items()}

    def _fields_of(self, config: Config) -> Config:
        return {name: config[name] for name in self.fields if name in config}


def stub(kind: str, roles: Sequence[str]) -> str:
    """Return a rule to fill in for a Keras layer without a rule, as code to paste.

    Args:
        kind: The qualified name of its class.
        roles: The names of its variables; the torch module is assumed to have parameters of the same names and shapes.
    """
    mapping = 'k3c.WeightMapping(torch=("{0}",), keras=("{0}",), transform=k3c.transforms.Same())'
    weights = "".join(f"{mapping.format(role)}, " for role in roles)
    return f"""\
k3c.register(
    k3c.Rule(
        torch="my_package.MyLayer",
        keras="{kind}",
        fields=(),  # the arguments of MyLayer that are its attributes, too
        weights=lambda config: ({weights}),
        to_keras=lambda config: (k3c.LayerSpec(kind="{kind}"),),
        to_torch=lambda layers: (k3c.LayerSpec(kind="my_package.MyLayer"),),
        layout="same",  # MyLayer is called with the axes as Keras has them
        examples=(k3c.Example(config={{}}, inputs=((2, 3),)),),
    )
)"""


def _times(number: int) -> str:
    return "" if number == 1 else f"{number or 'n'} x "
