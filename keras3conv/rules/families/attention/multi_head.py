"""Rules for multi-head attention: torch packs query, key and value in one weight, Keras has four layers with heads."""

from typing import Any

import numpy as np

from keras3conv.errors import RuleError
from keras3conv.rules.helpers.config import last, paired, require_value, shape_of
from keras3conv.rules.registry import register
from keras3conv.rules.rule import Config, Example, LayerSpec, LayerSpecs, Layout, Rule, WeightMapping
from keras3conv.transforms import Array, Arrays, Axes, Chain, Each, Same, Shape, Split

_TORCH = "torch.nn.MultiheadAttention"
_PARTS = ("query", "key", "value")
_KERNELS = tuple(f"{part}_dense/kernel" for part in _PARTS)
_BIASES = tuple(f"{part}_dense/bias" for part in _PARTS)


def _to_keras(config: Config) -> LayerSpecs:
    if config["bias_k"]:
        raise RuleError(
            "MultiheadAttention with add_bias_kv=True has no counterpart: Keras appends no learnt key and value to a "
            "sequence"
            "; append them in a custom layer"
        )
    if config["add_zero_attn"]:
        raise RuleError(
            "MultiheadAttention with add_zero_attn=True has no counterpart: Keras appends no zeros to a sequence"
            "; append them in a custom layer"
        )
    keras = {
        "num_heads": config["num_heads"],
        "key_dim": config["embed_dim"] // config["num_heads"],
        "output_shape": config["embed_dim"],
        "dropout": config["dropout"],
        "use_bias": config["in_proj_bias"],
    }
    return (LayerSpec(kind="keras.layers.MultiHeadAttention", config=keras),)


def _to_torch(layers: LayerSpecs) -> LayerSpecs:
    spec = last(layers)
    _require_torch_options(spec)
    embed, heads, _ = shape_of(spec, _KERNELS[0])
    config = {
        "embed_dim": embed,
        "num_heads": heads,
        "dropout": spec.config.get("dropout", 0.0),
        "bias": spec.config.get("use_bias", True),
        "add_zero_attn": False,
        "kdim": shape_of(spec, _KERNELS[1])[0],
        "vdim": shape_of(spec, _KERNELS[2])[0],
        "batch_first": True,
    }
    return (LayerSpec(kind=_TORCH, config=config),)


def _require_torch_options(spec: LayerSpec) -> None:
    """Raise `RuleError` if a Keras attention has sizes or options that torch's attention cannot have.

    The sizes of the query and the output must equal the number of heads times the size of a head.
    """
    embed, heads, size = shape_of(spec, _KERNELS[0])
    _, _, value_size = shape_of(spec, _KERNELS[2])
    *_, output = shape_of(spec, "output_dense/kernel")
    if not embed == heads * size == heads * value_size == output:
        raise RuleError(
            f"MultiHeadAttention has {heads} heads, key_dim={size}, value_dim={value_size}, {embed} inputs and "
            f"{output} "
            "outputs, but in torch heads x key_dim, heads x value_dim, inputs and outputs must be equal"
            ": change key_dim, value_dim or output_shape"
        )
    for name, usual in (("use_gate", False), ("sliding_window", None)):
        require_value(spec.kind, name, spec.config.get(name, usual), usual)
    axes = spec.config.get("attention_axes")
    require_value(spec.kind, "attention_axes", axes if axes is None else tuple(np.ravel(axes)), None, (1,))


def _weights(config: Config) -> tuple[WeightMapping, ...]:
    embed, heads = config["embed_dim"], config["num_heads"]
    kernel, thirds = Axes("(h d) e -> e h d", h=heads), Split(0, (embed,) * 3)
    packed: tuple[WeightMapping, ...] = (
        WeightMapping(torch=("in_proj_weight",), keras=_KERNELS, transform=Chain(thirds, Each(kernel))),
    )
    if not config["kdim"] == config["vdim"] == embed:
        packed = tuple(
            WeightMapping(torch=(f"{part[0]}_proj_weight",), keras=(role,), transform=kernel)
            for part, role in zip(_PARTS, _KERNELS, strict=True)
        )
    biases = Chain(thirds, Each(Axes("(h d) -> h d", h=heads)))
    output = Axes("o (h d) -> h d o", h=heads)
    return (
        *packed,
        WeightMapping(torch=("in_proj_bias",), keras=_BIASES, transform=biases),
        WeightMapping(torch=("out_proj.weight",), keras=("output_dense/kernel",), transform=output),
        WeightMapping(torch=("out_proj.bias",), keras=("output_dense/bias",), transform=Same()),
    )


def _layout(config: Config) -> Layout:
    return "same" if config.get("batch_first") else "time"


def _output(outputs: Arrays, torch: Config, keras: Config, shape: Shape) -> Array:
    """Return the output that Keras is expected to have: torch's first output, with the batch axis first.

    Args:
        outputs: The outputs of the torch layer: the attention's result, and the attention weights.
        torch: The configuration of the torch layer.
        keras: The configuration of the Keras layer; not used.
        shape: The shape of the Keras output; not used.
    """
    return outputs[0] if _layout(torch) == "same" else np.swapaxes(outputs[0], 0, 1)


def _keras_call(arrays: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return the inputs (query, key, value) in the order of the Keras layer's arguments: the value before the key."""
    query, key, value = arrays
    return query, value, key


_TORCH_TO_MULTI_HEAD_ATTENTION_EXAMPLES = (
    Example(
        config={"embed_dim": 8, "num_heads": 2, "kdim": 8, "vdim": 8, "batch_first": True},
        inputs=((2, 4, 8), (2, 5, 8), (2, 5, 8)),
    ),
    Example(
        config={"embed_dim": 12, "num_heads": 3, "kdim": 5, "vdim": 7, "dropout": 0.25, "batch_first": True},
        inputs=((2, 4, 12), (2, 3, 5), (2, 3, 7)),
    ),
    Example(
        config={"embed_dim": 8, "num_heads": 2, "kdim": 8, "vdim": 8, "bias": False},
        inputs=((4, 3, 8), (5, 3, 8), (5, 3, 8)),
        canonical=False,
    ),
)
_FIELDS = paired(
    "bias_k",
    "add_zero_attn",
    "kdim",
    "vdim",
    "batch_first",
    embed_dim=("output_shape", "key_dim"),
    num_heads="num_heads",
    dropout="dropout",
    in_proj_bias="use_bias",
)
register(
    Rule(
        torch=_TORCH,
        keras="keras.layers.MultiHeadAttention",
        fields=_FIELDS,
        weights=_weights,
        to_keras=_to_keras,
        to_torch=_to_torch,
        layout=_layout,
        output=_output,
        keras_arguments=_keras_call,
        examples=_TORCH_TO_MULTI_HEAD_ATTENTION_EXAMPLES,
        note=(
            "Keras is called with query, value, key; torch with query, key, value. In a boolean mask True means "
            "masked in torch and attended to in Keras; torch also accepts a float mask, which it adds to the scores, "
            "Keras does not. From Keras to torch batch_first is set. The random masks of dropout differ."
        ),
    )
)
