"""Rules for attention with projections of any width, in which several query heads may share a key and value head."""

import numpy as np

from keras3conv.errors import RuleError
from keras3conv.rules.helpers.config import last, paired, require_value, shape_of
from keras3conv.rules.helpers.own_layers import GROUPED_QUERY_ATTENTION
from keras3conv.rules.registry import register
from keras3conv.rules.rule import Config, Example, LayerSpec, LayerSpecs, Rule, WeightMapping
from keras3conv.transforms import Axes, Same

GROUPED = "keras.layers.GroupQueryAttention"
MULTI_HEAD = "keras.layers.MultiHeadAttention"

_FIELDS = paired(
    "embed_dim",
    "kdim",
    "vdim",
    num_heads="num_heads",
    num_key_value_heads="",
    head_dim="key_dim",
    value_dim="value_dim",
    output_dim="output_shape",
    bias="use_bias",
    dropout="dropout",
    sliding_window="sliding_window",
    use_gate="use_gate",
)
_GROUPED_FIELDS = {
    **_FIELDS,
    "num_heads": "num_query_heads",
    "num_key_value_heads": "num_key_value_heads",
    "head_dim": "",
    "value_dim": "",
    "output_dim": "",
}


def _weights(config: Config) -> tuple[WeightMapping, ...]:
    heads, shared = config["num_heads"], config["num_key_value_heads"]
    mappings = []
    for part, number in (("query", heads), ("key", shared), ("value", shared), ("gate", heads)):
        for name, role, pattern in (("weight", "kernel", "(h d) e -> e h d"), ("bias", "bias", "(h d) -> h d")):
            transform = Axes(pattern, h=number)
            mappings.append(
                WeightMapping(torch=(f"{part}.{name}",), keras=(f"{part}_dense/{role}",), transform=transform)
            )
    output = Axes("o (h d) -> h d o", h=heads)
    return (
        *mappings,
        WeightMapping(torch=("output.weight",), keras=("output_dense/kernel",), transform=output),
        WeightMapping(torch=("output.bias",), keras=("output_dense/bias",), transform=Same()),
    )


def _common(config: Config) -> dict[str, object]:
    names = {"dropout": "dropout", "use_bias": "bias", "sliding_window": "sliding_window", "use_gate": "use_gate"}
    return {keras: config[torch] for keras, torch in names.items()}


def _to_grouped(config: Config) -> LayerSpecs:
    for name, usual in (("value_dim", "head_dim"), ("output_dim", "embed_dim")):
        if config[name] != config[usual]:
            raise RuleError(
                f"GroupedQueryAttention has {name}={config[name]}, but in Keras it always equals "
                f"{usual}={config[usual]}"
                ": set both to the same number"
            )
    keras = {
        "head_dim": config["head_dim"],
        "num_query_heads": config["num_heads"],
        "num_key_value_heads": config["num_key_value_heads"],
        **_common(config),
    }
    return (LayerSpec(kind=GROUPED, config=keras),)


def _to_multi_head(config: Config) -> LayerSpecs:
    keras = {
        "num_heads": config["num_heads"],
        "key_dim": config["head_dim"],
        "value_dim": config["value_dim"],
        "output_shape": config["output_dim"],
        **_common(config),
    }
    return (LayerSpec(kind=MULTI_HEAD, config=keras),)


def _to_torch(layers: LayerSpecs) -> LayerSpecs:
    spec = last(layers)
    axes = spec.config.get("attention_axes")
    require_value(spec.kind, "attention_axes", axes if axes is None else tuple(np.ravel(axes)), None, (1,))
    embed, heads, size = shape_of(spec, "query_dense/kernel")
    keys, shared, _ = shape_of(spec, "key_dense/kernel")
    values, _, value_size = shape_of(spec, "value_dense/kernel")
    _, _, *output = shape_of(spec, "output_dense/kernel")
    if len(output) != 1:
        raise RuleError(
            f"MultiHeadAttention has output_shape={tuple(output)}, but in torch the output has only one feature axis"
            ": reshape the output in a separate layer"
        )
    config = {
        "embed_dim": embed,
        "num_heads": heads,
        "num_key_value_heads": shared,
        "head_dim": size,
        "value_dim": value_size,
        "kdim": keys,
        "vdim": values,
        "output_dim": output[0],
        "bias": spec.config.get("use_bias", True),
        "dropout": spec.config.get("dropout", 0.0),
        "sliding_window": spec.config.get("sliding_window"),
        "use_gate": spec.config.get("use_gate", False),
    }
    return (LayerSpec(kind=GROUPED_QUERY_ATTENTION, config=config),)


_NOTE = (
    "The torch module is part of keras3conv. Both sides are called with query, value, key; True in a mask means "
    "attended to on both sides. The random masks of dropout differ."
)

_GROUPED_EXAMPLES = (
    Example(
        config={"embed_dim": 5, "num_heads": 4, "num_key_value_heads": 2, "head_dim": 3, "kdim": 7},
        inputs=((2, 4, 5), (2, 6, 5), (2, 6, 7)),
    ),
    Example(
        config={
            "embed_dim": 5, "num_heads": 6, "num_key_value_heads": 2, "head_dim": 3, "bias": False, "use_gate": True,
            "sliding_window": 2,
        },
        inputs=((2, 7, 5), (2, 6, 5)),
    ),
    Example(
        config={"embed_dim": 6, "num_heads": 2, "num_key_value_heads": 1, "head_dim": 4, "dropout": 0.25},
        inputs=((2, 4, 6), (2, 3, 6)),
    ),
)  # fmt: skip

# Only some backends have a fused attention if value_dim differs from key_dim; with dropout Keras uses no fused one.
_MULTI_HEAD_EXAMPLES = (
    Example(
        config={
            "embed_dim": 5, "num_heads": 2, "num_key_value_heads": 2, "head_dim": 3, "kdim": 7, "vdim": 8,
            "output_dim": 9,
        },
        inputs=((2, 4, 5), (2, 6, 8), (2, 6, 7)),
    ),
    Example(
        config={
            "embed_dim": 5, "num_heads": 2, "num_key_value_heads": 2, "head_dim": 3, "value_dim": 4, "bias": False,
            "use_gate": True, "dropout": 0.25, "sliding_window": 3,
        },
        inputs=((2, 7, 5), (2, 6, 5)),
    ),
)  # fmt: skip


def _equal_heads(config: Config) -> bool:
    return bool(config["num_heads"] == config["num_key_value_heads"])


register(
    Rule(
        torch=GROUPED_QUERY_ATTENTION,
        keras=GROUPED,
        fields=_GROUPED_FIELDS,
        weights=_weights,
        to_keras=_to_grouped,
        to_torch=_to_torch,
        examples=_GROUPED_EXAMPLES,
        note=_NOTE,
    )
)
register(
    Rule(
        torch=GROUPED_QUERY_ATTENTION,
        keras=MULTI_HEAD,
        fields=_FIELDS,
        applies=_equal_heads,
        weights=_weights,
        to_keras=_to_multi_head,
        to_torch=_to_torch,
        examples=_MULTI_HEAD_EXAMPLES,
        note=_NOTE,
    )
)
