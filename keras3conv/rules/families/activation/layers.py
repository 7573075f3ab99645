"""Activations: same maths, other defaults. Every default is written out, and what has no counterpart is refused."""

from collections.abc import Callable
from functools import partial

from keras3conv.rules.helpers.config import back, last, one, require_value
from keras3conv.rules.registry import register
from keras3conv.rules.rule import Config, Example, LayerSpec, LayerSpecs, Rule

_INPUTS = (((3, 6),), ((2, 3, 5, 4),))
_EXAMPLES = tuple(Example(config={}, inputs=inputs) for inputs in _INPUTS)


def _activation(config: Config, *, name: str) -> LayerSpecs:
    return (LayerSpec(kind="keras.layers.Activation", config={"activation": name}),)


def _refusing(kind: str, fixed: Config, then: Callable[[Config], LayerSpecs]) -> Callable[[Config], LayerSpecs]:
    """`then`, for a configuration that has exactly these values; `RuleError` for any other."""

    def to_keras(config: Config) -> LayerSpecs:
        for name, value in fixed.items():
            require_value(kind, name, config[name], value)
        return then(config)

    return to_keras


# The layers come before the named activations: where both can say it, a layer of its own is what people write.
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
        fields=(),
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
        fields=(),
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
    slope = keras.get("negative_slope", keras.get("alpha", 0.3))  # Keras 2 calls it alpha
    return (LayerSpec(kind="torch.nn.LeakyReLU", config={"negative_slope": slope}),)


register(
    Rule(
        torch="torch.nn.LeakyReLU",
        keras="keras.layers.LeakyReLU",
        fields=("negative_slope",),
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
        fields=("alpha",),
        to_keras=lambda config: (LayerSpec(kind="keras.layers.ELU", config={"alpha": config["alpha"]}),),
        to_torch=_elu_to_torch,
        examples=(Example(config={}, inputs=((3, 5),)), Example(config={"alpha": 0.7}, inputs=((2, 3, 7),))),
        train=True,
    )
)


def _softmax_to_keras(config: Config) -> LayerSpecs:
    # Without a dim torch guesses one from the number of axes, and warns.
    require_value("torch.nn.Softmax", "dim", config["dim"], *range(-8, 8))
    return (LayerSpec(kind="keras.layers.Softmax", config={"axis": config["dim"]}),)


def _softmax_to_torch(layers: LayerSpecs, *, negated: bool = False) -> LayerSpecs:
    """Of the values, or of their negatives: what the layer before says."""
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
        fields=("dim",),
        to_keras=_softmax_to_keras,
        to_torch=_softmax_to_torch,
        examples=_SOFTMAX_TO_SOFTMAX_EXAMPLES,
        train=True,
        note="The axis is counted in torch's layout; over the channels of an image it is Softmax2d that moves it.",
    )
)

register(
    Rule(
        torch="torch.nn.Softmin",
        keras="keras.layers.Softmax",
        fields=("dim",),
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
        fields=(),
        to_keras=lambda config: (LayerSpec(kind="keras.layers.Softmax", config={"axis": -1}),),
        to_torch=back("torch.nn.Softmax2d"),
        layout="channels",
        examples=(Example(config={}, inputs=((2, 3, 4, 5),)), Example(config={}, inputs=((2, 5, 7, 8),))),
        train=True,
    )
)


# Torch's name, Keras' name, and the settings for which they are the same function.
_NAMED: tuple[tuple[str, str, Config], ...] = (
    ("ReLU", "relu", {}),
    ("ReLU6", "relu6", {}),
    ("Sigmoid", "sigmoid", {}),
    ("Tanh", "tanh", {}),
    ("SiLU", "silu", {}),
    ("Mish", "mish", {}),
    ("Softsign", "softsign", {}),
    ("GELU", "gelu", {"approximate": "none"}),
    ("SELU", "selu", {}),
    ("CELU", "celu", {"alpha": 1.0}),
    ("Hardtanh", "hard_tanh", {"min_val": -1.0, "max_val": 1.0}),
    ("Hardsigmoid", "hard_sigmoid", {}),
    ("Hardswish", "hard_silu", {}),
    ("LogSigmoid", "log_sigmoid", {}),
    ("Tanhshrink", "tanh_shrink", {}),
    ("Hardshrink", "hard_shrink", {"lambd": 0.5}),
    ("Softshrink", "soft_shrink", {"lambd": 0.5}),
    ("LogSoftmax", "log_softmax", {"dim": -1}),
    ("Softmax", "softmax", {"dim": -1}),
    ("GLU", "glu", {"dim": -1}),
    ("ELU", "elu", {"alpha": 1.0}),
    ("LeakyReLU", "leaky_relu", {"negative_slope": 0.2}),
    ("Identity", "linear", {}),
)


def _has(config: Config, *, fixed: Config) -> bool:
    return all(config[name] == value for name, value in fixed.items())


def _fixed_back(layers: LayerSpecs, *, kind: str, fixed: Config) -> LayerSpecs:
    return (LayerSpec(kind=kind, config=dict(fixed)),)


for _torch, _name, _fixed in _NAMED:
    _kind = f"torch.nn.{_torch}"
    register(
        Rule(
            torch=_kind,
            keras=f"keras.activations.{_name}",
            fields=tuple(_fixed),
            applies=partial(_has, fixed=_fixed),
            to_keras=_refusing(_kind, _fixed, partial(_activation, name=_name)),
            to_torch=partial(_fixed_back, kind=_kind, fixed=_fixed),
            examples=tuple(Example(config=_fixed, inputs=inputs) for inputs in _INPUTS),
            train=True,
        )
    )

_SOFTPLUS = {"beta": 1.0, "threshold": 20.0}

register(
    Rule(
        torch="torch.nn.Softplus",
        keras="keras.activations.softplus",
        fields=("beta", "threshold"),
        applies=partial(_has, fixed=_SOFTPLUS),
        to_keras=_refusing("torch.nn.Softplus", _SOFTPLUS, partial(_activation, name="softplus")),
        to_torch=partial(_fixed_back, kind="torch.nn.Softplus", fixed=_SOFTPLUS),
        examples=_EXAMPLES,
        train=True,
        note="Above its threshold torch returns the input itself, which at 20 is 2e-9 less than softplus.",
    )
)
