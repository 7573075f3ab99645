"""Rules for layers that reshape, permute or repeat. Axis indices are those of torch's layout."""

from collections.abc import Mapping
from typing import Any

from keras3conv.errors import RuleError
from keras3conv.rules.helpers.config import back, last, one, paired, renaming, require_value
from keras3conv.rules.operations import for_torch
from keras3conv.rules.registry import register
from keras3conv.rules.rule import Config, Example, LayerSpec, LayerSpecs, Rule

register(
    Rule(
        torch="torch.nn.Identity",
        keras="keras.layers.Identity",
        fields={},
        to_keras=one("keras.layers.Identity"),
        to_torch=back("torch.nn.Identity"),
        examples=(Example(config={}, inputs=((3, 5),)),),
        train=True,
    )
)


def _flatten_to_keras(config: Config) -> LayerSpecs:
    require_value("torch.nn.Flatten", "start_dim", config["start_dim"], 1)
    require_value("torch.nn.Flatten", "end_dim", config["end_dim"], -1)
    return (LayerSpec(kind="keras.layers.Flatten"),)


register(
    Rule(
        torch="torch.nn.Flatten",
        keras="keras.layers.Flatten",
        fields=paired("start_dim", "end_dim"),
        applies=lambda config: (config["start_dim"], config["end_dim"]) == (1, -1),
        to_keras=_flatten_to_keras,
        to_torch=lambda layers: (LayerSpec(kind="torch.nn.Flatten", config={"start_dim": 1, "end_dim": -1}),),
        examples=(Example(config={}, inputs=((3, 5),)), Example(config={}, inputs=((2, 5, 7),))),
        note="Torch flattens (c, h, w), Keras (h, w, c): the inputs of the next Dense are permuted (needs a trace).",
        train=True,
    )
)

FLATTEN_AXES = "keras3conv.frameworks.keras.layers.FlattenAxes"
UNFLATTEN_AXIS = "keras3conv.frameworks.keras.layers.UnflattenAxis"


_FLATTEN_TO_FLATTEN_AXES_EXAMPLES = (
    Example(config={"start_dim": 2}, inputs=((2, 3, 5, 4),)),
    Example(config={"start_dim": 0, "end_dim": 1}, inputs=((2, 3, 7),)),
    Example(config={"start_dim": -3, "end_dim": -2}, inputs=((2, 3, 5, 4),)),
)
register(
    Rule(
        **renaming("torch.nn.Flatten", FLATTEN_AXES, start_dim="start_axis", end_dim="end_axis"),
        examples=_FLATTEN_TO_FLATTEN_AXES_EXAMPLES,
        train=True,
    )
)


def _reshape_to_keras(config: Config) -> LayerSpecs:
    require_value("torch.nn.Unflatten", "dim", config["dim"], 1)
    return (LayerSpec(kind="keras.layers.Reshape", config={"target_shape": tuple(config["unflattened_size"])}),)


def _reshape_to_torch(layers: LayerSpecs) -> LayerSpecs:
    """Return the torch layers for a Keras Reshape: a Flatten and an Unflatten.

    The Flatten is left out if each sample is a vector.
    """
    reshape = last(layers)
    config = {"dim": 1, "unflattened_size": tuple(reshape.config["target_shape"])}
    flat = reshape.inputs and len(reshape.inputs[0]) == 2
    before = () if flat else (LayerSpec(kind="torch.nn.Flatten", config={"start_dim": 1, "end_dim": -1}),)
    return (*before, LayerSpec(kind="torch.nn.Unflatten", config=config))


_UNFLATTEN_TO_RESHAPE_EXAMPLES = (
    Example(config={"dim": 1, "unflattened_size": (3, 4)}, inputs=((2, 12),)),
    Example(config={"dim": 1, "unflattened_size": (5, -1, 2)}, inputs=((3, 20),)),
)
register(
    Rule(
        torch="torch.nn.Unflatten",
        keras="keras.layers.Reshape",
        fields=paired("dim", unflattened_size="target_shape"),
        applies=lambda config: config["dim"] == 1,
        to_keras=_reshape_to_keras,
        to_torch=_reshape_to_torch,
        examples=_UNFLATTEN_TO_RESHAPE_EXAMPLES,
        train=True,
        note="For inputs (batch, features) only.",
    )
)


register(
    Rule(
        **renaming("torch.nn.Unflatten", UNFLATTEN_AXIS, dim="axis", unflattened_size="shape"),
        examples=(
            Example(config={"dim": 2, "unflattened_size": (3, 2)}, inputs=((2, 5, 6, 4),)),
            Example(config={"dim": -1, "unflattened_size": (2, -1)}, inputs=((3, 5, 8),)),
        ),
        train=True,
    )
)


def _permute_to_keras(config: Config) -> LayerSpecs:
    dims = tuple(config["dims"])
    if dims[0] != 0 or min(dims) < 0:
        raise RuleError(
            f"permute with dims={dims} has no counterpart: Keras' Permute cannot move the batch axis or use negative "
            "indices"
            "; keep axis 0 first, and use positive indices"
        )
    return (LayerSpec(kind="keras.layers.Permute", config={"dims": dims[1:]}),)


_PERMUTE_TO_PERMUTE_EXAMPLES = (
    Example(config={"dims": (0, 2, 1)}, inputs=((2, 3, 5),)),
    Example(config={"dims": (0, 3, 1, 2)}, inputs=((2, 3, 5, 4),)),
)
register(
    Rule(
        torch="torch.permute",
        keras="keras.layers.Permute",
        fields=paired(dims="dims"),
        applies=lambda config: config["dims"][0] == 0 <= min(config["dims"]),
        to_keras=_permute_to_keras,
        to_torch=lambda layers: (LayerSpec(kind="torch.permute", config={"dims": (0, *last(layers).config["dims"])}),),
        examples=_PERMUTE_TO_PERMUTE_EXAMPLES,
        train=True,
    )
)


# The arguments of torch functions in examples, by name, each with an input shape.
_ARGUMENTS: Mapping[str, tuple[tuple[Any, ...], ...]] = {
    "permute": (((2, 0, 1), (2, 3, 5)), ((1, 0, 3, 2), (2, 3, 5, 4))),
    "transpose": ((1, 2, (2, 3, 5)), (-1, 1, (2, 3, 5, 4))),
    "movedim": ((1, -1, (2, 3, 5, 4)),),
    "reshape": (((-1, 3, 2), (2, 6)), ((4, -1), (2, 6, 5))),
    "unsqueeze": ((1, (2, 3)), (-1, (2, 3, 5))),
    "squeeze": ((1, (2, 1, 5)), (-1, (2, 3, 1))),
    "flip": (((1,), (2, 3)), ((1, 2), (2, 3, 5))),
    "tile": (((1, 2, 3), (2, 3, 5)),),
    "repeat_interleave": ((3, 1, (2, 3)), (2, -1, (2, 3, 5))),
}

for _name, _values in _ARGUMENTS.items():
    (_operation,) = for_torch(f"torch.{_name}")
    _names = {entry.torch: entry.keras for entry in _operation.parameters}
    register(
        Rule(
            **renaming(_operation.torch[0], _operation.keras[0], **_names),
            examples=tuple(
                Example(config=dict(zip(_names, values, strict=True)), inputs=(shape,)) for *values, shape in _values
            ),
            train=True,
        )
    )


def _repeats_a_vector(config: Config) -> bool:
    return bool(config["dim"] == 1)


def _repeat_vector_to_keras(config: Config) -> LayerSpecs:
    """Return the Keras layers for `torch.repeat_interleave` along an axis of size one.

    One layer removes this axis, then a RepeatVector inserts the repeated axis.
    """
    require_value("torch.repeat_interleave", "dim", config["dim"], 1)
    vector = LayerSpec(kind="keras.ops.squeeze", config={"axis": 1})
    return vector, LayerSpec(kind="keras.layers.RepeatVector", config={"n": config["repeats"]})


def _repeat_vector_to_torch(layers: LayerSpecs) -> LayerSpecs:
    repeated = {"repeats": last(layers).config["n"], "dim": 1}
    before = () if len(layers) > 1 else (LayerSpec(kind="torch.unsqueeze", config={"dim": 1}),)
    return (*before, LayerSpec(kind="torch.repeat_interleave", config=repeated))


_REPEAT_INTERLEAVE_TO_REPEAT_VECTOR_EXAMPLES = (
    Example(config={"repeats": 3, "dim": 1}, inputs=((2, 1, 5),)),
    Example(config={"repeats": 4, "dim": 1}, inputs=((3, 1, 2),)),
)
register(
    Rule(
        torch="torch.repeat_interleave",
        keras="keras.layers.RepeatVector",
        fields=paired("dim", repeats="n"),
        applies=_repeats_a_vector,
        to_keras=_repeat_vector_to_keras,
        to_torch=_repeat_vector_to_torch,
        examples=_REPEAT_INTERLEAVE_TO_REPEAT_VECTOR_EXAMPLES,
        train=True,
        note="For an axis of size one.",
    )
)
