"""Layers that move axes and values about. Axes are counted as torch has them: a rule's layout is "same"."""

from functools import partial
from typing import Any

from keras3conv.errors import RuleError
from keras3conv.rules.helpers.config import back, last, one, require_value
from keras3conv.rules.registry import register
from keras3conv.rules.rule import Config, Example, LayerSpec, LayerSpecs, Rule

register(
    Rule(
        torch="torch.nn.Identity",
        keras="keras.layers.Identity",
        fields=(),
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
        fields=("start_dim", "end_dim"),
        applies=lambda config: (config["start_dim"], config["end_dim"]) == (1, -1),
        to_keras=_flatten_to_keras,
        to_torch=lambda layers: (LayerSpec(kind="torch.nn.Flatten", config={"start_dim": 1, "end_dim": -1}),),
        examples=(Example(config={}, inputs=((3, 5),)), Example(config={}, inputs=((2, 5, 7),))),
        note="Torch flattens (c, h, w), Keras (h, w, c): the kernel of the next Dense is permuted by the traced shape.",
        train=True,
    )
)

FLATTEN_AXES = "keras3conv.frameworks.keras.layers.FlattenAxes"
UNFLATTEN_AXIS = "keras3conv.frameworks.keras.layers.UnflattenAxis"


def _axes_to_torch(layers: LayerSpecs) -> LayerSpecs:
    keras = last(layers).config
    config = {"start_dim": keras["start_axis"], "end_dim": keras["end_axis"]}
    return (LayerSpec(kind="torch.nn.Flatten", config=config),)


_FLATTEN_TO_FLATTEN_AXES_EXAMPLES = (
    Example(config={"start_dim": 2}, inputs=((2, 3, 5, 4),)),
    Example(config={"start_dim": 0, "end_dim": 1}, inputs=((2, 3, 7),)),
    Example(config={"start_dim": -3, "end_dim": -2}, inputs=((2, 3, 5, 4),)),
)
register(
    Rule(
        torch="torch.nn.Flatten",
        keras=FLATTEN_AXES,
        fields=("start_dim", "end_dim"),
        to_keras=lambda config: (
            LayerSpec(kind=FLATTEN_AXES, config={"start_axis": config["start_dim"], "end_axis": config["end_dim"]}),
        ),
        to_torch=_axes_to_torch,
        examples=_FLATTEN_TO_FLATTEN_AXES_EXAMPLES,
        train=True,
    )
)


def _reshape_to_keras(config: Config) -> LayerSpecs:
    require_value("torch.nn.Unflatten", "dim", config["dim"], 1)
    return (LayerSpec(kind="keras.layers.Reshape", config={"target_shape": tuple(config["unflattened_size"])}),)


def _reshape_to_torch(layers: LayerSpecs) -> LayerSpecs:
    """What has more axes than a batch and its features is flattened before."""
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
        fields=("dim", "unflattened_size"),
        applies=lambda config: config["dim"] == 1,
        to_keras=_reshape_to_keras,
        to_torch=_reshape_to_torch,
        examples=_UNFLATTEN_TO_RESHAPE_EXAMPLES,
        train=True,
        note="Of a batch of features; with more axes after them Keras refuses the shape.",
    )
)


def _unflatten_to_keras(config: Config) -> LayerSpecs:
    keras = {"axis": config["dim"], "shape": tuple(config["unflattened_size"])}
    return (LayerSpec(kind=UNFLATTEN_AXIS, config=keras),)


def _unflatten_to_torch(layers: LayerSpecs) -> LayerSpecs:
    keras = last(layers).config
    config = {"dim": keras["axis"], "unflattened_size": tuple(keras["shape"])}
    return (LayerSpec(kind="torch.nn.Unflatten", config=config),)


register(
    Rule(
        torch="torch.nn.Unflatten",
        keras=UNFLATTEN_AXIS,
        fields=("dim", "unflattened_size"),
        to_keras=_unflatten_to_keras,
        to_torch=_unflatten_to_torch,
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
        raise RuleError(f"permute with dims={dims}: Permute leaves the batch axis alone, and counts from it")
    return (LayerSpec(kind="keras.layers.Permute", config={"dims": dims[1:]}),)


_PERMUTE_TO_PERMUTE_EXAMPLES = (
    Example(config={"dims": (0, 2, 1)}, inputs=((2, 3, 5),)),
    Example(config={"dims": (0, 3, 1, 2)}, inputs=((2, 3, 5, 4),)),
)
register(
    Rule(
        torch="torch.permute",
        keras="keras.layers.Permute",
        fields=("dims",),
        applies=lambda config: config["dims"][0] == 0 <= min(config["dims"]),
        to_keras=_permute_to_keras,
        to_torch=lambda layers: (LayerSpec(kind="torch.permute", config={"dims": (0, *last(layers).config["dims"])}),),
        examples=_PERMUTE_TO_PERMUTE_EXAMPLES,
        train=True,
    )
)


def _renamed(config: Config, *, kind: str, names: tuple[tuple[str, str], ...]) -> LayerSpecs:
    return (LayerSpec(kind=kind, config={keras: config[torch] for torch, keras in names}),)


def _named_back(layers: LayerSpecs, *, kind: str, names: tuple[tuple[str, str], ...]) -> LayerSpecs:
    keras = last(layers).config
    config = {torch: tuple(keras[name]) if isinstance(keras[name], list) else keras[name] for torch, name in names}
    return (LayerSpec(kind=kind, config=config),)


# Torch's function, Keras', the names of the arguments, and values for them, each with the shape of an input.
_FUNCTIONS: tuple[tuple[str, str, tuple[tuple[str, str], ...], tuple[tuple[Any, ...], ...]], ...] = (
    ("permute", "transpose", (("dims", "axes"),), (((2, 0, 1), (2, 3, 5)), ((1, 0, 3, 2), (2, 3, 5, 4)))),
    ("transpose", "swapaxes", (("dim0", "axis1"), ("dim1", "axis2")), ((1, 2, (2, 3, 5)), (-1, 1, (2, 3, 5, 4)))),
    ("movedim", "moveaxis", (("source", "source"), ("destination", "destination")), ((1, -1, (2, 3, 5, 4)),)),
    ("reshape", "reshape", (("shape", "newshape"),), (((-1, 3, 2), (2, 6)), ((4, -1), (2, 6, 5)))),
    ("unsqueeze", "expand_dims", (("dim", "axis"),), ((1, (2, 3)), (-1, (2, 3, 5)))),
    ("squeeze", "squeeze", (("dim", "axis"),), ((1, (2, 1, 5)), (-1, (2, 3, 1)))),
    ("flip", "flip", (("dims", "axis"),), (((1,), (2, 3)), ((1, 2), (2, 3, 5)))),
    ("tile", "tile", (("dims", "repeats"),), (((1, 2, 3), (2, 3, 5)),)),
    ("repeat_interleave", "repeat", (("repeats", "repeats"), ("dim", "axis")), ((3, 1, (2, 3)), (2, -1, (2, 3, 5)))),
)

for _torch, _keras, _names, _values in _FUNCTIONS:
    register(
        Rule(
            torch=f"torch.{_torch}",
            keras=f"keras.ops.{_keras}",
            fields=tuple(name for name, _ in _names),
            to_keras=partial(_renamed, kind=f"keras.ops.{_keras}", names=_names),
            to_torch=partial(_named_back, kind=f"torch.{_torch}", names=_names),
            examples=tuple(
                Example(config=dict(zip((name for name, _ in _names), values, strict=True)), inputs=(shape,))
                for *values, shape in _values
            ),
            train=True,
        )
    )


def _repeats_a_vector(config: Config) -> bool:
    return bool(config["dim"] == 1)


def _repeat_vector_to_keras(config: Config) -> LayerSpecs:
    """Of an axis of one value: that axis is what RepeatVector makes."""
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
        fields=("repeats", "dim"),
        applies=_repeats_a_vector,
        to_keras=_repeat_vector_to_keras,
        to_torch=_repeat_vector_to_torch,
        examples=_REPEAT_INTERLEAVE_TO_REPEAT_VECTOR_EXAMPLES,
        train=True,
        note="Of an axis of one value.",
    )
)
