"""Define a rule, which says how layers of one torch class and of one Keras class correspond: weights and arguments.

One `register(Rule(...))` in a file of `rules/families` is enough for the transfer of weights in both directions, the
conversion of configurations in both directions, the comparison of hyper-parameters, a row in the generated table, and
the tests: weights and configurations come back unchanged from a round trip, and both layers return the same outputs.
Rules name classes by their qualified names, so this module imports no framework.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from keras3conv.model.views import LayerView, Side
from keras3conv.rules.fixed import FixedSetting
from keras3conv.transforms import Array, Arrays, Shape, Transform

Config = Mapping[str, Any]

Fields = Mapping[str, str | tuple[str, ...]]
"""Torch attributes, each with the Keras argument or arguments of the same meaning; empty if there is none."""

Layout = Literal["same", "channels", "time"]
"""The order of torch's axes: "same" as in Keras, "channels" second (last in Keras), or "time" before the batch."""


@dataclass(frozen=True, kw_only=True)
class WeightMapping:
    """A mapping: torch tensors, Keras tensors, and the transform from the torch tensors to the Keras tensors.

    In a rule, the names are roles ("weight", "kernel"); in a plan, they are full paths ("fc.weight", "fc/kernel").

    Attributes:
        torch: The torch names, in the order of the transform's arguments.
        keras: The Keras names, in the order of the transform's results.
        transform: The transform from torch to Keras; its inverse is used from Keras to torch.
    """

    torch: tuple[str, ...]
    keras: tuple[str, ...]
    transform: Transform

    def names(self, side: Side) -> tuple[str, ...]:
        """Return the names of the mapping's torch tensors, or of its Keras variables.

        Args:
            side: "torch" or "keras".
        """
        return self.torch if side == "torch" else self.keras


@dataclass(frozen=True, kw_only=True)
class LayerSpec:
    """The description of a layer or function from which it can be constructed.

    Attributes:
        kind: The qualified class name.
        config: The arguments of the constructor.
        shapes: The shapes of the layer's tensors, by name in the layer; empty for most layers that a rule makes.
        inputs: The shapes of the inputs, batch axis first, None for a dynamic size; empty if unknown.
    """

    kind: str
    config: Config = field(default_factory=dict)
    shapes: Mapping[str, Shape] = field(default_factory=dict, compare=False)
    inputs: tuple[tuple[int | None, ...], ...] = field(default=(), compare=False)


LayerSpecs = tuple[LayerSpec, ...]


@dataclass(frozen=True, kw_only=True)
class Example:
    """A torch layer with input shapes, on which a rule is tested.

    The test makes round trips of weights and configuration, and compares the outputs of both layers.

    Attributes:
        config: The arguments of the constructor of the torch layer.
        inputs: The shape of every input, in torch's axis order, batch axis first.
        integers: For inputs that are indices, the number of different indices; 0 for floating-point inputs.
        canonical: Whether the conversion to Keras and back gives exactly `config`. False if it gives equivalent
            arguments, such as `padding=1` for `padding="same"`.
        keras: The Keras layer with the shapes of its variables, for rules that need more than the torch layer stores,
            such as the number of heads.
    """

    config: Config
    inputs: tuple[Shape, ...]
    integers: int = 0
    canonical: bool = True
    keras: LayerSpec | None = None

    @property
    def beyond(self) -> Config:
        """The further keys that rules may read: "inputs" (the input shapes) and "keras" (the Keras layer)."""
        return {"inputs": self.inputs, **({} if self.keras is None else {"keras": self.keras})}


def _always(config: Config) -> bool:
    return True


def _nothing(config: Config) -> tuple[WeightMapping, ...]:
    return ()


def _no_settings(config: Config) -> tuple[FixedSetting, ...]:
    return ()


@dataclass(frozen=True, kw_only=True)
class Rule:
    """How the layers of one torch class correspond to those of one Keras class, in both directions.

    Attributes:
        torch: The qualified name of the torch class: "torch.nn.Conv2d". The rule also applies to subclasses.
        keras: The qualified name of the Keras class, such as "keras.layers.DepthwiseConv2D".
        fields: The attributes of the torch module that are its configuration, each with the Keras argument of the same
            meaning. May be a tuple of the attributes: then the Keras arguments are found by changing one attribute at a
            time.
        weights: Computes the mappings from the torch configuration, in the order in which Keras creates its variables.
            A mapping is ignored if neither layer has its tensors (no bias).
        applies: Returns whether the rule is for a torch configuration; it selects one of several Keras classes.
        to_keras: Returns, for a torch configuration, the Keras layers that compute the same, in the order of their
            calls.
        to_torch: Returns the torch layers for the Keras layers that `to_keras` makes, with the shapes of their
            variables.
        fixed: Returns, for the configuration of a Keras layer, the arguments that the torch class lacks, each with the
            value that the torch class always computes with (the activation of the gates of a GRU).
        returned: The Keras arguments that only select what the layer returns, such as `return_sequences`. `output`
            selects the same from torch's outputs, so these arguments never cause a difference.
        layout: The order of the axes: "channels" if torch's second axis is Keras' last (for three axes and more, and
            unless the Keras layer has `data_format="channels_first"`), "same" if both have the same order, "time" if
            torch has the time axis first and the batch second. It may be a function of the configuration.
        output: Computes the expected Keras output from torch's outputs, the torch and the Keras configuration, and the
            shape of the Keras output. By default, it is torch's first output in Keras' layout.
        part: Returns, from the Keras layer's output and both configurations, the part that corresponds to torch's
            output. Needed if another Keras layer, after this one, removes the rest.
        torch_count: The number of torch layers; 0 for any number. If it is not 1, tensor names and configurations are
            numbered: "0.weight", "1.weight"; {"0": ..., "1": ...}.
        keras_count: The number of Keras layers; 0 for any number. If it is not 1, variable names are numbered:
            "0/kernel".
        parallel: Whether several layers receive the same input, and their outputs are joined along the last axis
            (query, key and value); otherwise they run in sequence.
        between: A name for the code of the model that runs between the torch layers: "the scores of an attention". A
            rule with such code translates only weights.
        torch_arguments: Returns the positional arguments of the torch layer for the input arrays of an example.
        keras_arguments: Returns the positional arguments of the Keras layer for the same arrays in Keras' layout.
        aliases: The current name of a Keras variable in its layer, for each name that it has in older Keras files.
        ignored: Torch tensors that need no counterpart, by name in the layer, each with the reason.
        examples: Torch layers with which the rule is tested. They should expose mistakes: different sizes, options on
            and off.
        train: Whether the outputs of the two layers are also equal in training mode.
        fallback: Whether other rules for the same layers are preferred to this one.
        variant: A name that distinguishes this rule from another rule for the same two classes: "patches". A variant is
            used only if the configuration of the torch layer is known and `applies` returns True for it.
        note: Remarks for the user, such as information that the conversion loses ("Lossy: ...").
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
    fixed: Callable[[Config], Iterable[FixedSetting]] = _no_settings
    returned: tuple[str, ...] = ()
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
        """Return a torch layer's axis order compared to Keras: "same", "channels" (second axis) or "time" (first).

        Args:
            config: The configuration of the torch layer.
        """
        return self.layout(config) if callable(self.layout) else self.layout

    @property
    def correspondences(self) -> dict[str, tuple[str, ...]] | None:
        """For each torch attribute, the Keras arguments of the same meaning; None if the rule does not declare them."""
        if not isinstance(self.fields, Mapping):
            return None
        return {torch: (keras,) if isinstance(keras, str) else keras for torch, keras in self.fields.items() if keras}

    def may_apply(self, layer: LayerView) -> bool:
        """Return whether the rule may apply to a torch layer; True for a layer of a file, without configuration."""
        return layer.config is None or self.applies(self.config_of(layer))

    def config_of(self, layer: LayerView) -> Config:
        """Return those arguments in a torch layer's configuration that the rule reads.

        For a combination of several layers, return the arguments of each layer by its index: {"0": {...}, "1": {...}}.
        """
        config = layer.config or {}
        if self.torch_count == 1:
            return self._fields_of(config)
        return {number: self._fields_of(part) for number, part in config.items()}

    def _fields_of(self, config: Config) -> Config:
        return {name: config[name] for name in self.fields if name in config}


def stub(kind: str, roles: Sequence[str], side: Side = "keras") -> str:
    """Return the source code of an incomplete rule for a layer without a rule, for the user to complete.

    Args:
        kind: The qualified name of the class.
        roles: The names of its tensors. The user's class is assumed to have tensors with the same names and shapes.
        side: The framework of the class; the user writes the class of the other framework.
    """
    own = "my_package.MyLayer"
    torch, keras = (own, kind) if side == "keras" else (kind, own)
    module = torch.rpartition(".")[2]
    mapping = 'k3c.WeightMapping(torch=("{0}",), keras=("{1}",), transform=k3c.transforms.Same())'
    weights = "".join(f"{mapping.format(role, role.replace('.', '_'))}, " for role in roles)
    return f"""\
k3c.register(
    k3c.Rule(
        torch="{torch}",
        keras="{keras}",
        fields=(),  # the arguments of {module} that are also attributes of the module
        weights=lambda config: ({weights}),
        to_keras=lambda config: (k3c.LayerSpec(kind="{keras}"),),
        to_torch=lambda layers: (k3c.LayerSpec(kind="{torch}"),),
        layout="same",  # the axis order is the same as in Keras; "channels" for a layer that acts on channels of images
        examples=(k3c.Example(config={{}}, inputs=((2, 3),)),),
    )
)"""


def _times(number: int) -> str:
    return "" if number == 1 else f"{number or 'n'} x "
