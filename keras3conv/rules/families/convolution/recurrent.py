"""Rules for convolutional LSTMs. Torch has no such module, so keras3conv defines it, for any number of spatial axes."""

from functools import partial
from typing import Any

from keras3conv.rules.fixed import DROPOUT_AND_STATE, recurrent_settings
from keras3conv.rules.helpers.config import bound, ints, last, paired, require_stateless, shape_of
from keras3conv.rules.helpers.own_layers import CONV_LSTM, activation_of, function_of
from keras3conv.rules.registry import register
from keras3conv.rules.rule import Config, Example, LayerSpec, LayerSpecs, Rule, WeightMapping
from keras3conv.transforms import Axes, Same

_SPACE = ("w", "h w", "d h w")
"""The names of the spatial axes in transform patterns, for one, two and three axes."""


def _weights(config: Config) -> tuple[WeightMapping, ...]:
    space = _SPACE[len(config["kernel_size"]) - 1]
    kernel = Axes(f"o i {space} -> {space} i o")
    return (
        WeightMapping(torch=("weight_ih",), keras=("cell/kernel",), transform=kernel),
        WeightMapping(torch=("weight_hh",), keras=("cell/recurrent_kernel",), transform=kernel),
        WeightMapping(torch=("bias",), keras=("cell/bias",), transform=Same()),
    )


def _to_keras(config: Config, *, kind: str) -> LayerSpecs:
    keras = {
        "filters": config["out_channels"],
        "kernel_size": config["kernel_size"],
        "strides": config["stride"],
        "padding": config["padding"],
        "dilation_rate": config["dilation"],
        "data_format": "channels_last" if config["channels_last"] else "channels_first",
        "use_bias": config["bias"],
        **{name: activation_of(CONV_LSTM, config[name]) for name in ("activation", "recurrent_activation")},
        **{name: config[name] for name in ("return_sequences", "return_state", "go_backwards")},
    }
    return (LayerSpec(kind=kind, config=keras),)


def _to_torch(layers: LayerSpecs) -> LayerSpecs:
    spec = last(layers)
    keras = spec.config
    *kernel_size, channels, gates = shape_of(spec, "cell/kernel")
    rank = len(kernel_size)
    require_stateless(spec.kind, spec.config)
    usual = {"activation": "tanh", "recurrent_activation": "sigmoid"}
    config: dict[str, Any] = {
        "in_channels": channels,
        "out_channels": gates // 4,
        "kernel_size": tuple(kernel_size),
        "stride": ints(keras.get("strides", 1), rank),
        "padding": keras.get("padding", "valid"),
        "dilation": ints(keras.get("dilation_rate", 1), rank),
        "channels_last": keras.get("data_format") != "channels_first",
        "bias": keras.get("use_bias", True),
        **{name: function_of(spec.kind, keras.get(name, default)) for name, default in usual.items()},
        **{name: keras.get(name, False) for name in ("return_sequences", "return_state", "go_backwards")},
    }
    return (LayerSpec(kind=CONV_LSTM, config=config),)


def _applies(config: Config, *, rank: int) -> bool:
    return len(config["kernel_size"]) == rank


def _examples(rank: int) -> tuple[Example, ...]:
    """Return examples to test the rule: even and odd kernels and sizes, strides, dilations, channels first and last."""
    kernel, strided, sizes = (3, 2, 2)[:rank], (2, 3, 1)[:rank], (5, 6, 4)[:rank]
    plain = {"in_channels": 3, "out_channels": 2, "kernel_size": kernel}
    options: tuple[dict[str, Any], ...] = (
        {"return_sequences": True, "channels_last": True, "padding": "same"},
        {"bias": False, "stride": strided, "padding": "same", "channels_last": True, "activation": "softsign"},
        {"dilation": (2, 1, 2)[:rank], "channels_last": True, "return_state": True, "go_backwards": True},
        {"recurrent_activation": "elu", "stride": strided},
    )
    return tuple(
        Example(config=plain | option, inputs=((2, 3, *sizes, 3) if "channels_last" in option else (2, 3, 3, *sizes),))
        for option in options
    )


_NOTE = (
    "The torch module is part of keras3conv. Keras' dropout arguments, which act in training only, and masks of steps "
    "are lost."
)

_FIELDS = paired(
    "in_channels",
    out_channels="filters",
    kernel_size="kernel_size",
    stride="strides",
    padding="padding",
    dilation="dilation_rate",
    channels_last="data_format",
    bias="use_bias",
    activation="activation",
    recurrent_activation="recurrent_activation",
    return_sequences="return_sequences",
    return_state="return_state",
    go_backwards="go_backwards",
)

for _rank in (1, 2, 3):
    register(
        Rule(
            torch=CONV_LSTM,
            keras=f"keras.layers.ConvLSTM{_rank}D",
            fields=_FIELDS,
            applies=partial(_applies, rank=_rank),
            **bound(_weights, partial(_to_keras, kind=f"keras.layers.ConvLSTM{_rank}D"), _to_torch),
            fixed=partial(recurrent_settings, lacking=DROPOUT_AND_STATE),
            examples=_examples(_rank),
            train=True,
            note=_NOTE,
        )
    )
