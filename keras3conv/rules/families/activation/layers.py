"""Rules for activations. The defaults of the frameworks differ, so every argument is written explicitly."""

from collections.abc import Callable
from functools import partial

from keras3conv.rules.helpers.config import back, last, one, paired, require_value
from keras3conv.rules.operations import activations
from keras3conv.rules.registry import register
from keras3conv.rules.rule import Config, Example, LayerSpec, LayerSpecs, Rule

_INPUTS = (((3, 6),), ((2, 3, 5, 4),))
_EXAMPLES = tuple(Example(config={}, inputs=inputs) for inputs in _INPUTS)


def _activation(config: Config, *, name: str) -> LayerSpecs:
    return (LayerSpec(kind="keras.layers.Activation", config={"activation": name}),)


def _refusing(kind: str, fixed: Config, then: Callable[[Config], LayerSpecs]) -> Callable[[Config], LayerSpecs]:
    """Return a function for `Rule.to_keras` that refuses configurations with a value that Keras lacks.

    Args:
        kind: The class of the torch layer, for the message.
        fixed: The values that the configuration must have; any other value raises `RuleError`.
        then: Returns the Keras layers for a configuration with these values.
    """

    def to_keras(config: Config) -> LayerSpecs:
        for name, value in fixed.items():
            require_value(kind, name, config[name], value)
        return then(config)

    return to_keras


def _relu_to_torch(layers: LayerSpecs) -> LayerSpecs:
    _require_plain_relu(layers, None)
    return (LayerSpec(kind="torch.nn.ReLU"),)


def _relu6_to_torch(layers: LayerSpecs) -> LayerSpecs:
    _require_plain_relu(layers, 6)
    return (LayerSpec(kind="torch.nn.ReLU6"),)


def _require_plain_relu(layers: LayerSpecs, maximum: float | None) -> None:
    keras = last(layers).config
    require_value("keras.layers.ReLU", "max_value", keras.get("max_value"), maximum)
    require_value("keras.layers.ReLU", "negative_slope", keras.get("negative_slope") or 0.0, 0.0)
    require_value("keras.layers.ReLU", "threshold", keras.get("threshold") or 0.0, 0.0)


register(
    Rule(
        torch="torch.nn.ReLU",
        keras="keras.layers.ReLU",
        fields={},
        to_keras=one("keras.layers.ReLU"),
        to_torch=_relu_to_torch,
        examples=_EXAMPLES,
        train=True,
    )
)

register(
    Rule(
        torch="torch.nn.ReLU6",
        keras="keras.layers.ReLU",
        fields={},
        to_keras=lambda config: (LayerSpec(kind="keras.layers.ReLU", config={"max_value": 6.0}),),
        to_torch=_relu6_to_torch,
        examples=_EXAMPLES,
        train=True,
    )
)


def _leaky_relu_to_keras(config: Config) -> LayerSpecs:
    return (LayerSpec(kind="keras.layers.LeakyReLU", config={"negative_slope": config["negative_slope"]}),)


def _leaky_relu_to_torch(layers: LayerSpecs) -> LayerSpecs:
    keras = last(layers).config
    slope = keras.get("negative_slope", keras.get("alpha", 0.3))  # the name in Keras 2 is alpha
    return (LayerSpec(kind="torch.nn.LeakyReLU", config={"negative_slope": slope}),)


register(
    Rule(
        torch="torch.nn.LeakyReLU",
        keras="keras.layers.LeakyReLU",
        fields=paired(negative_slope="negative_slope"),
        to_keras=_leaky_relu_to_keras,
        to_torch=_leaky_relu_to_torch,
        examples=(Example(config={}, inputs=((3, 5),)), Example(config={"negative_slope": 0.2}, inputs=((2, 7),))),
        train=True,
    )
)


def _elu_to_torch(layers: LayerSpecs) -> LayerSpecs:
    return (LayerSpec(kind="torch.nn.ELU", config={"alpha": last(layers).config.get("alpha", 1.0)}),)


register(
    Rule(
        torch="torch.nn.ELU",
        keras="keras.layers.ELU",
        fields=paired(alpha="alpha"),
        to_keras=lambda config: (LayerSpec(kind="keras.layers.ELU", config={"alpha": config["alpha"]}),),
        to_torch=_elu_to_torch,
        examples=(Example(config={}, inputs=((3, 5),)), Example(config={"alpha": 0.7}, inputs=((2, 3, 7),))),
        train=True,
    )
)


def _softmax_to_keras(config: Config) -> LayerSpecs:
    # With dim=None, torch chooses an axis by the number of axes, and warns.
    require_value("torch.nn.Softmax", "dim", config["dim"], *range(-8, 8))
    return (LayerSpec(kind="keras.layers.Softmax", config={"axis": config["dim"]}),)


def _softmax_to_torch(layers: LayerSpecs, *, negated: bool = False) -> LayerSpecs:
    """Return the torch layer for a Keras Softmax: a Softmax, or a Softmin.

    Args:
        layers: The Keras layers; the last one is the Softmax.
        negated: Whether the rule is for a layer that negates the values, followed by the Softmax: together a Softmin.
    """
    axis = last(layers).config.get("axis", -1)
    if not isinstance(axis, int):
        require_value("keras.layers.Softmax", "number of axes", len(axis), 1)
    before = [layer.kind for layer in layers[:-1]]
    require_value("keras.layers.Softmax", "layers before", before, ["keras.ops.negative"] if negated else [])
    kind = "torch.nn.Softmin" if negated else "torch.nn.Softmax"
    return (LayerSpec(kind=kind, config={"dim": axis if isinstance(axis, int) else int(axis[0])}),)


def _softmin_to_keras(config: Config) -> LayerSpecs:
    return (LayerSpec(kind="keras.ops.negative"), *_softmax_to_keras(config))


_SOFTMAX_TO_SOFTMAX_EXAMPLES = (
    Example(config={"dim": -1}, inputs=((3, 5),)),
    Example(config={"dim": 1}, inputs=((2, 3, 4, 5),)),
    Example(config={"dim": -2}, inputs=((2, 3, 7),)),
)
register(
    Rule(
        torch="torch.nn.Softmax",
        keras="keras.layers.Softmax",
        fields=paired(dim="axis"),
        to_keras=_softmax_to_keras,
        to_torch=_softmax_to_torch,
        examples=_SOFTMAX_TO_SOFTMAX_EXAMPLES,
        train=True,
        note="The axis is an index in torch's layout. For the channels of an image use Softmax2d: it moves the axis.",
    )
)

register(
    Rule(
        torch="torch.nn.Softmin",
        keras="keras.layers.Softmax",
        fields=paired(dim="axis"),
        to_keras=_softmin_to_keras,
        to_torch=partial(_softmax_to_torch, negated=True),
        examples=(
            Example(config={"dim": -1}, inputs=((3, 5),)),
            Example(config={"dim": 1}, inputs=((2, 3, 4, 5),)),
        ),
        train=True,
    )
)

register(
    Rule(
        torch="torch.nn.Softmax2d",
        keras="keras.layers.Softmax",
        fields={},
        to_keras=lambda config: (LayerSpec(kind="keras.layers.Softmax", config={"axis": -1}),),
        to_torch=back("torch.nn.Softmax2d"),
        layout="channels",
        examples=(Example(config={}, inputs=((2, 3, 4, 5),)), Example(config={}, inputs=((2, 5, 7, 8),))),
        train=True,
    )
)


def _has(config: Config, *, fixed: Config) -> bool:
    return all(config[name] == value for name, value in fixed.items())


def _fixed_back(layers: LayerSpecs, *, kind: str, fixed: Config) -> LayerSpecs:
    return (LayerSpec(kind=kind, config=dict(fixed)),)


for _name, _operation in activations().items():
    if _operation.module:
        _fixed = _operation.to_torch({}, as_activation=True)
        register(
            Rule(
                torch=_operation.module,
                keras=_operation.activation,
                fields=paired(*_fixed),
                applies=partial(_has, fixed=_fixed),
                to_keras=_refusing(_operation.module, _fixed, partial(_activation, name=_name)),
                to_torch=partial(_fixed_back, kind=_operation.module, fixed=_fixed),
                examples=tuple(Example(config=_fixed, inputs=inputs) for inputs in _INPUTS),
                train=True,
                note=_operation.note,
            )
        )

register(
    Rule(
        torch="torch.nn.Identity",
        keras="keras.activations.linear",
        fields={},
        to_keras=lambda config: _activation(config, name="linear"),
        to_torch=back("torch.nn.Identity"),
        examples=_EXAMPLES,
        train=True,
    )
)
