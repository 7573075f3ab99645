"""Rules for layers that merge several inputs, and for arithmetic with a number.

A Keras layer merges any number of tensors, a torch function only two. More tensors are stacked and reduced in torch.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, Literal, TypedDict

from keras3conv.errors import RuleError
from keras3conv.rules.helpers.config import last, paired, require_value
from keras3conv.rules.registry import register
from keras3conv.rules.rule import Config, Example, LayerSpec, LayerSpecs, Rule

_BROADCAST = "All inputs must have the same number of axes: torch adds missing axes in front, Keras after the batch."


def as_list(arrays: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return the arguments of a Keras merge layer such as Add: one list of all input arrays."""
    return (list(arrays),)


class _OfAList(TypedDict):
    layout: Literal["channels"]
    keras_arguments: Callable[[tuple[Any, ...]], tuple[Any, ...]]
    train: bool
    note: str


_OF_A_LIST: _OfAList = {"layout": "channels", "keras_arguments": as_list, "train": True, "note": _BROADCAST}
"""The arguments of `Rule` that all rules for Keras layers with a list of inputs have in common."""


def _is_of_two(config: Config) -> bool:
    return "other" not in config and config.get("alpha", 1) == 1


def _merge_to_keras(config: Config, *, kind: str) -> LayerSpecs:
    if not _is_of_two(config):
        name = kind.rpartition(".")[2]
        raise RuleError(
            f"{name} merges only tensors, so it cannot have the arguments {dict(config)} of the torch call"
            ": use an operator with the number instead"
        )
    return (LayerSpec(kind=kind),)


def _merge_to_torch(layers: LayerSpecs, *, kind: str, reduction: str, **arguments: float) -> LayerSpecs:
    """Return the torch function for a Keras merge layer of two tensors; for more, torch.stack and a reduction.

    Torch.stack and the reduction are also used if the number of inputs is unknown.

    Args:
        layers: The Keras layers; the last one is the merge layer.
        kind: The torch function of two tensors, such as "torch.add".
        reduction: The torch function that reduces the stacked tensors: "torch.sum"; empty if there is none.
        arguments: The arguments of the torch function besides the tensors.

    Raises:
        RuleError: There may be more than two inputs, but there is no reduction.
    """
    if len(last(layers).inputs) == 2:
        return (LayerSpec(kind=kind, config=arguments),)
    if not reduction:
        raise RuleError(
            f"{last(layers).kind.rpartition('.')[2]} can be converted only with two inputs, but the number of its "
            "inputs is unknown"
            ": call the model once, or give inputs=..."
        )
    return LayerSpec(kind="torch.stack", config={"dim": 0}), LayerSpec(kind=reduction, config={"dim": 0})


_PAIRS = (
    ("torch.add", "Add", "torch.sum"),
    ("torch.sub", "Subtract", ""),
    ("torch.mul", "Multiply", "torch.prod"),
    ("torch.maximum", "Maximum", "torch.amax"),
    ("torch.minimum", "Minimum", "torch.amin"),
)

for _torch, _keras, _reduction in _PAIRS:
    _examples: tuple[Example, ...] = (
        Example(config={}, inputs=((2, 3, 5, 4), (2, 3, 5, 4))),
        Example(config={}, inputs=((2, 5, 3), (2, 5, 1))),
    )
    register(
        Rule(
            torch=_torch,
            keras=f"keras.layers.{_keras}",
            fields={},
            applies=_is_of_two,
            to_keras=partial(_merge_to_keras, kind=f"keras.layers.{_keras}"),
            to_torch=partial(_merge_to_torch, kind=_torch, reduction=_reduction),
            **_OF_A_LIST,
            examples=_examples,
        )
    )


def _average_to_keras(config: Config) -> LayerSpecs:
    require_value("torch.lerp", "weight", config["weight"], 0.5)
    return (LayerSpec(kind="keras.layers.Average"),)


_LERP_TO_AVERAGE_EXAMPLES = (
    Example(config={"weight": 0.5}, inputs=((2, 3, 5, 4), (2, 3, 5, 4))),
    Example(config={"weight": 0.5}, inputs=((2, 5, 3), (2, 5, 1))),
)
register(
    Rule(
        torch="torch.lerp",
        keras="keras.layers.Average",
        fields=paired("weight"),
        applies=lambda config: bool(config["weight"] == 0.5),
        to_keras=_average_to_keras,
        to_torch=partial(_merge_to_torch, kind="torch.lerp", reduction="torch.mean", weight=0.5),
        **_OF_A_LIST,
        examples=_LERP_TO_AVERAGE_EXAMPLES,
    )
)

_CAT_TO_CONCATENATE_EXAMPLES = (
    Example(config={"dim": 1}, inputs=((2, 3, 5, 4), (2, 1, 5, 4), (2, 6, 5, 4))),
    Example(config={"dim": -1}, inputs=((2, 3, 5), (2, 3, 4))),
    Example(config={"dim": 2}, inputs=((2, 3, 5, 4), (2, 3, 1, 4))),
)
register(
    Rule(
        torch="torch.cat",
        keras="keras.layers.Concatenate",
        fields=paired(dim="axis"),
        to_keras=lambda config: (LayerSpec(kind="keras.layers.Concatenate", config={"axis": config["dim"]}),),
        to_torch=lambda layers: (LayerSpec(kind="torch.cat", config={"dim": last(layers).config.get("axis", -1)}),),
        torch_arguments=as_list,
        keras_arguments=as_list,
        examples=_CAT_TO_CONCATENATE_EXAMPLES,
        train=True,
        note="The axis is an index in torch's layout.",
    )
)

_STACK_TO_STACK_EXAMPLES = (
    Example(config={"dim": 1}, inputs=((2, 3), (2, 3), (2, 3))),
    Example(config={"dim": -1}, inputs=((2, 3, 5), (2, 3, 5))),
)
register(
    Rule(
        torch="torch.stack",
        keras="keras.ops.stack",
        fields=paired(dim="axis"),
        to_keras=lambda config: (LayerSpec(kind="keras.ops.stack", config={"axis": config["dim"]}),),
        to_torch=lambda layers: (LayerSpec(kind="torch.stack", config={"dim": last(layers).config.get("axis", 0)}),),
        torch_arguments=as_list,
        keras_arguments=as_list,
        examples=_STACK_TO_STACK_EXAMPLES,
        train=True,
    )
)


def _dot_to_torch(layers: LayerSpecs) -> LayerSpecs:
    keras = last(layers).config
    require_value("keras.layers.Dot", "normalize", keras.get("normalize", False), False)
    axes = keras["axes"]
    require_value("keras.layers.Dot", "axes", tuple(axes) if isinstance(axes, list | tuple) else axes, (2, 1))
    return (LayerSpec(kind="torch.bmm"),)


_BMM_TO_DOT_EXAMPLES = (
    Example(config={}, inputs=((2, 3, 5), (2, 5, 4))),
    Example(config={}, inputs=((3, 4, 2), (3, 2, 7))),
)
register(
    Rule(
        torch="torch.bmm",
        keras="keras.layers.Dot",
        fields={},
        to_keras=lambda config: (LayerSpec(kind="keras.layers.Dot", config={"axes": (2, 1)}),),
        to_torch=_dot_to_torch,
        keras_arguments=as_list,
        examples=_BMM_TO_DOT_EXAMPLES,
        train=True,
    )
)

register(
    Rule(
        torch="torch.matmul",
        keras="keras.ops.matmul",
        fields={},
        to_keras=lambda config: (LayerSpec(kind="keras.ops.matmul"),),
        to_torch=lambda layers: (LayerSpec(kind="torch.matmul"),),
        examples=(
            Example(config={}, inputs=((2, 3, 4, 5), (2, 3, 5, 7))),
            Example(config={}, inputs=((2, 3, 5), (5, 4))),
        ),
        train=True,
    )
)


# Arithmetic with a number
def _is_number(config: Config, *, name: str = "other") -> bool:
    return isinstance(config.get(name), int | float)


def _scale_to_keras(config: Config, *, argument: str) -> LayerSpecs:
    if not _is_number(config):
        raise RuleError(
            f"Keras' Rescaling takes one number, so it cannot have the arguments {dict(config)} of the torch call"
            ": use a function of keras.ops"
        )
    keras = {"scale": 1.0, "offset": 0.0} | {argument: config["other"]}
    return (LayerSpec(kind="keras.layers.Rescaling", config=keras),)


def _scale_to_torch(layers: LayerSpecs, *, argument: str) -> LayerSpecs:
    """Return the torch functions for a Keras Rescaling, which multiplies by a scale and adds an offset.

    The sum is left out if the offset is 0.

    Args:
        layers: The Keras layers; the last one has the scale and the offset.
        argument: "scale" in the rule for `torch.mul`, which also makes a `torch.add` if the offset is not 0; "offset"
            in the rule for `torch.add`, which leaves out the product if the scale is 1.
    """
    keras = last(layers).config
    numbers = {"scale": keras["scale"], "offset": keras.get("offset", 0.0)}
    if not all(isinstance(number, int | float) for number in numbers.values()):
        raise RuleError(
            f"Rescaling with {numbers} has no counterpart in torch: scale and offset must be single numbers"
            "; scale in a custom layer"
        )
    product = LayerSpec(kind="torch.mul", config={"other": numbers["scale"]})
    total = LayerSpec(kind="torch.add", config={"other": numbers["offset"]})
    if argument == "offset" and numbers["scale"] == 1:
        return (total,)
    return (product, total) if numbers["offset"] else (product,)


# The torch function, the name of its number argument, the Keras function, and two numbers for examples.
_WITH_NUMBER = (
    ("torch.mul", "other", "multiply", (-0.7, 1 / 255)),
    ("torch.add", "other", "add", (-0.7, 3)),
    ("torch.sub", "other", "subtract", (0.485, -2)),
    ("torch.div", "other", "divide", (0.229, -3.0)),
    ("torch.pow", "exponent", "power", (2, 3.0)),
)


def _number_to_keras(config: Config, *, kind: str, name: str) -> LayerSpecs:
    return (LayerSpec(kind=kind, config={"x2": config[name]}),)


def _function_back(layers: LayerSpecs, *, kind: str, name: str) -> LayerSpecs:
    return (LayerSpec(kind=kind, config={name: last(layers).config["x2"]}),)


for _torch, _number, _keras, _values in _WITH_NUMBER:
    _examples = tuple(
        Example(config={_number: value}, inputs=(shape,))
        for value, shape in zip(_values, ((3, 5), (2, 3, 5, 4)), strict=True)
    )
    register(
        Rule(
            torch=_torch,
            keras=f"keras.ops.{_keras}",
            fields={_number: "x2"},
            applies=partial(_is_number, name=_number),
            to_keras=partial(_number_to_keras, kind=f"keras.ops.{_keras}", name=_number),
            to_torch=partial(_function_back, kind=_torch, name=_number),
            examples=_examples,
            train=True,
        )
    )

for _torch, _argument in (("torch.mul", "scale"), ("torch.add", "offset")):
    _examples = (
        Example(config={"other": -0.75}, inputs=((3, 5),)),
        Example(config={"other": 3}, inputs=((2, 3, 5, 4),)),
    )
    register(
        Rule(
            torch=_torch,
            keras="keras.layers.Rescaling",
            fields={"other": _argument},
            applies=_is_number,
            to_keras=partial(_scale_to_keras, argument=_argument),
            to_torch=partial(_scale_to_torch, argument=_argument),
            examples=_examples,
            train=True,
            note="On TensorFlow the layer stores scale and offset in float32.",
        )
    )
