"""Rules for poolings that no layer of Keras computes: layers of keras3conv compute the windows with slices.

These are dilated maxima, averages that leave out the padding, and last windows that are not complete.
"""

from functools import partial

from keras3conv.errors import RuleError
from keras3conv.rules.families.pooling.plain import ONES, PLAIN, Options, examples, of_rank
from keras3conv.rules.helpers.config import ints, last, require_value
from keras3conv.rules.registry import register
from keras3conv.rules.rule import Config, LayerSpec, LayerSpecs, Rule

_LAYERS = {"Max": "WindowMaximum", "Avg": "WindowAverage"}
_WINDOW = {"kernel_size": "pool_size", "stride": "strides", "padding": "padding", "ceil_mode": "ceil_mode"}
_FIELDS = {
    "Max": {**_WINDOW, "dilation": "dilation_rate"},
    "Avg": {**_WINDOW, "count_include_pad": "count_include_pad", "divisor_override": "divisor_override"},
}
_FOR_EACH_AXIS = ("kernel_size", "stride", "padding", "dilation")


def _to_keras(config: Config, *, rank: int, name: str) -> LayerSpecs:
    require_value(f"torch.nn.{name}Pool{rank}d", "return_indices", config.get("return_indices", False), False)
    given = {**config, "stride": config["stride"] or config["kernel_size"]}
    keras = {
        there: ints(given[here], rank) if here in _FOR_EACH_AXIS else given.get(here)
        for here, there in _FIELDS[name].items()
    }
    return (LayerSpec(kind=f"keras3conv.frameworks.keras.layers.{_LAYERS[name]}", config=keras),)


def _to_torch(layers: LayerSpecs, *, rank: int, name: str) -> LayerSpecs:
    keras = last(layers).config
    axes = len(keras["pool_size"])
    if axes != rank:
        raise RuleError(f"a pooling over {axes} axes cannot become {name}Pool{rank}d: change the number of axes")
    config = {
        here: ints(keras[there], rank) if here in _FOR_EACH_AXIS else keras[there]
        for here, there in of_rank(_FIELDS[name], rank).items()
    }
    config |= {"return_indices": False} if name == "Max" else {}
    return (LayerSpec(kind=f"torch.nn.{name}Pool{rank}d", config=config),)


_OPTIONS: dict[str, Options] = {
    "Max": (
        {"kernel_size": (3, 2, 2), "stride": (2, 1, 3), "padding": (1, 0, 1), "dilation": (2, 3, 1)},
        {"kernel_size": (2, 3, 2), "stride": (2, 4, 3), "padding": (1, 1, 1), "ceil_mode": True} | ONES,
    ),
    "Avg": (
        PLAIN[2] | {"count_include_pad": False},
        {"kernel_size": (3, 2, 2), "stride": (2, 3, 2), "padding": (1, 1, 0), "ceil_mode": True},
        PLAIN[2] | {"ceil_mode": True, "count_include_pad": False, "divisor_override": 3},
    ),
}
for _rank in (1, 2, 3):
    for _name, _layer in _LAYERS.items():
        _indices = {"return_indices": ""} if _name == "Max" else {}
        register(
            Rule(
                torch=f"torch.nn.{_name}Pool{_rank}d",
                keras=f"keras3conv.frameworks.keras.layers.{_layer}",
                fields=of_rank(_FIELDS[_name], _rank) | _indices,
                to_keras=partial(_to_keras, rank=_rank, name=_name),
                to_torch=partial(_to_torch, rank=_rank, name=_name),
                layout="channels",
                examples=examples(_rank, _OPTIONS[_name]),
                train=True,
            )
        )
