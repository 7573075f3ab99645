"""A rule is a value: what one layer of torch and one of Keras have to do with each other, both ways.

One `register(Rule(...))` in one file of `rules/` gives transfer both ways, configuration both ways, the audit of
hyper-parameters, a row in the generated table and every law as a test. Rules name classes by their qualified names,
so this module imports no framework.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from keras3conv.model.views import LayerView, Side
from keras3conv.transforms import Array, Arrays, Shape, Transform

Config = Mapping[str, Any]


Layout = Literal["same", "channels", "time"]
"""Where torch has an axis that Keras has elsewhere: nowhere, channels second instead of last, time before the batch."""


@dataclass(frozen=True, kw_only=True)
class WeightMapping:
    """Which tensors become which, and how.

    In a rule the names are roles ("weight", "kernel"); in a plan they are full paths ("fc.weight", "fc/kernel").

    Attributes:
        torch: Names on the torch side, in the order that the transform takes.
        keras: Names on the Keras side, in the order that the transform gives.
        transform: From torch to Keras. The way back is its inverse.
    """

    torch: tuple[str, ...]
    keras: tuple[str, ...]
    transform: Transform

    def names(self, side: Side) -> tuple[str, ...]:
        """Return the names on one side."""
        return self.torch if side == "torch" else self.keras


@dataclass(frozen=True, kw_only=True)
class LayerSpec:
    """A layer as data: what is needed to make it.

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
    """A torch layer, and an input for it, with which the laws are tried.

    Attributes:
        config: Arguments of the torch constructor.
        inputs: The shape of every input, in torch's layout, batch axis first.
        integers: For inputs that are indices: how many values there are; 0 for real inputs.
        canonical: Whether the configuration comes back as it was. It is False for one that says the same thing
            in other words (`padding="same"` for `padding=1`), which comes back in the rule's own words.
        keras: The Keras layer that stands against it, by its shapes, for rules that cannot do without: torch does not
            say into how many heads a product is cut.
    """

    config: Config
    inputs: tuple[Shape, ...]
    integers: int = 0
    canonical: bool = True
    keras: LayerSpec | None = None

    @property
    def beyond(self) -> Config:
        """What a rule may know beyond torch's own configuration: the shapes of the inputs, the Keras layer."""
        return {"inputs": self.inputs, **({} if self.keras is None else {"keras": self.keras})}


def _always(config: Config) -> bool:
    return True


def _nothing(config: Config) -> tuple[WeightMapping, ...]:
    return ()


@dataclass(frozen=True, kw_only=True)
class Rule:
    """How one class of torch and one class of Keras correspond.

    Attributes:
        torch: The qualified name of the torch class: "torch.nn.Conv2d". Subclasses are found by their MRO.
        keras: The qualified name of the Keras class: "keras.layers.DepthwiseConv2D".
        fields: The attributes of the torch module that make its configuration.
        weights: From the torch configuration to the mappings, in the order in which Keras creates its variables. A
            mapping whose tensors neither side has (no bias) is dropped.
        applies: Whether the rule is for this torch configuration; picks among several Keras targets.
        to_keras: From the torch configuration to the Keras layers that compute the same; more than one where one
            cannot say it.
        to_torch: The way back, from the layers that `to_keras` makes, with the shapes of their tensors.
        layout: Where the channel axis is: "channels" if torch's second axis is Keras' last (from three axes on, and
            unless the Keras layer says `data_format="channels_first"`), "same" if both have the axes in one order.
            "time" if torch's first axis is time and its second the batch. It may depend on the configuration.
        output: What the torch layer returned, as the Keras layer returns it; by default the first array, in Keras'
            layout. It is given torch's outputs, both configurations, and the shape that Keras returned.
        part: Of what the Keras layer returned, what the torch layer returns, where a layer after it cuts the rest off.
            It is given the array and both configurations.
        torch_count: How many torch layers stand together on that side; 0 for any number. Their roles are numbered:
            "0.weight", "1.weight".
            A torch configuration then is one for every number: {"0": ..., "1": ...}.
        keras_count: How many Keras layers, likewise: "0/kernel", "1/kernel".
        parallel: Whether the many are given the same input, and their outputs are joined along the last axis (query,
            key and value); else each is given what the one before it returned.
        between: What torch has as code between the many, where no layer says it (the scores of an attention). Such a
            rule is for weights: the layers alone are no model.
        torch_arguments: From the arrays of an example to the positional arguments of the torch layer.
        keras_arguments: From the same arrays, in Keras' layout, to those of the Keras layer.
        aliases: Names that older Keras files use for a variable, and today's name.
        ignored: Torch tensors (by role) without a counterpart, each with the reason.
        examples: Torch layers that the laws are tried with; adversarial: all sizes differ, options on and off.
        train: Whether the two agree in training mode too.
        variant: What tells this rule from another for the same two classes, in words: "patches". It is used where the
            configuration of the torch layer is known and `applies` says so; a file does not tell it.
        note: What a user should know; a loss is declared here.
        origin: Where the rule was made, for messages.
    """

    torch: str
    keras: str
    fields: tuple[str, ...]
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
    variant: str = ""
    note: str = ""
    origin: str = field(default="", compare=False)

    @property
    def name(self) -> str:
        """The two class names: "torch.nn.Linear <-> keras.layers.Dense"; unique among the registered rules."""
        variant = f" ({self.variant})" if self.variant else ""
        return f"{_times(self.torch_count)}{self.torch} <-> {_times(self.keras_count)}{self.keras}{variant}"

    def layout_for(self, config: Config) -> Layout:
        """The layout for a torch configuration."""
        return self.layout(config) if callable(self.layout) else self.layout

    def may_apply(self, layer: LayerView) -> bool:
        """Whether the rule is for this torch layer's configuration; a file does not tell, so then it may be."""
        return layer.config is None or self.applies(self.config_of(layer))

    def config_of(self, layer: LayerView) -> Config:
        """The fields of a torch layer that the rule reads; of several layers, by their numbers."""
        config = layer.config or {}
        if self.torch_count == 1:
            return self._fields_of(config)
        return {number: self._fields_of(part) for number, part in config.items()}

    def _fields_of(self, config: Config) -> Config:
        return {name: config[name] for name in self.fields if name in config}


def stub(kind: str, roles: Sequence[str]) -> str:
    """The rule to fill in for a Keras layer that no rule knows, as code to paste.

    Args:
        kind: The qualified name of its class.
        roles: The names of its variables; the torch module is taken to have parameters of the same names and shapes.
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
