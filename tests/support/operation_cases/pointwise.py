"""Cases of elementwise functions of one tensor."""

import numpy as np
from keras import activations, ops

from tests.support.operations import IMAGE, VECTOR, Case, Given, case, named

_BETWEEN = {
    "arccos": (-0.9, 0.9),
    "arccosh": (1.1, 3.0),
    "arcsin": (-0.9, 0.9),
    "arctanh": (-0.9, 0.9),
    "erfinv": (-0.9, 0.9),
    "log": (0.1, 3.0),
    "log10": (0.1, 3.0),
    "log1p": (-0.5, 3.0),
    "log2": (0.1, 3.0),
    "reciprocal": (0.3, 3.0),
    "rsqrt": (0.1, 3.0),
    "sqrt": (0.1, 3.0),
}
"""The range of values on which a function is defined, at a distance from its singularities."""

_PLAIN = (
    "abs", "absolute", "angle", "arccos", "arccosh", "arcsin", "arcsinh", "arctan",
    "arctanh", "cbrt", "ceil", "conj", "conjugate", "copy", "cos", "cosh",
    "deg2rad", "erf", "erfc", "erfinv", "exp", "exp2", "expm1", "fabs",
    "floor", "gelu", "hard_shrink", "hard_sigmoid", "hard_silu", "hard_tanh", "i0", "isfinite",
    "isinf", "isnan", "isneginf", "isposinf", "isreal", "log", "log10", "log1p",
    "log2", "log_sigmoid", "logical_not", "negative", "ones_like", "rad2deg", "real", "reciprocal",
    "relu", "relu6", "round", "rsqrt", "selu", "sigmoid", "sign", "signbit",
    "silu", "sin", "sinc", "sinh", "soft_shrink", "softplus", "softsign", "sparse_plus",
    "sparse_sigmoid", "sqrt", "square", "squareplus", "stop_gradient", "tan", "tanh", "tanh_shrink",
    "trunc", "zeros_like", "celu", "elu", "leaky_relu", "nan_to_num",
)  # fmt: skip

_WHOLE = Given(IMAGE, "int32", 1, 5)
_OF_WHOLE_NUMBERS = ("abs", "ceil", "exp", "fabs", "floor", "negative", "round", "sign", "sqrt", "square", "trunc")

CASES: dict[str, list[Case]] = {
    name: [case(named(name), Given(IMAGE, "float32", *_BETWEEN.get(name, (-2.0, 2.0))))] for name in _PLAIN
}
for _name in _OF_WHOLE_NUMBERS:
    CASES[_name].append(case(named(_name), _WHOLE))
for _name in ("bitwise_invert", "bitwise_not"):
    CASES[_name] = [case(named(_name), _WHOLE)]

CASES["gelu"].append(case(named("gelu", approximate=False), IMAGE))
CASES["round"].append(case(named("round", decimals=1), IMAGE))
CASES["softplus"].append(case(named("softplus"), Given(IMAGE, low=-30.0, high=18.0)))
CASES["logical_not"].append(case(named("logical_not"), Given(IMAGE, "bool")))
CASES["hard_shrink"].append(case(named("hard_shrink", threshold=0.7), IMAGE))
CASES["soft_shrink"].append(case(named("soft_shrink", threshold=0.7), IMAGE))
CASES["threshold"] = [case(lambda x: ops.threshold(x, -0.3, -0.7), IMAGE)]
CASES["squareplus"].append(case(named("squareplus", b=0.7), IMAGE))
CASES["celu"].append(case(named("celu", alpha=0.3), IMAGE))
CASES["elu"].append(case(named("elu", alpha=0.3), IMAGE))
CASES["leaky_relu"].append(case(named("leaky_relu", negative_slope=0.3), IMAGE))
CASES["nan_to_num"].append(
    case(lambda x: ops.nan_to_num(ops.log(x), nan=0.5, neginf=-2.0), Given(IMAGE, "int32", -1, 2))
)
CASES["cast"] = [
    case(named("cast", dtype="int32"), IMAGE),
    case(lambda x: ops.cast(x, "float32") * 2, Given(IMAGE, "int32")),
    case(named("cast", dtype="bool"), Given(IMAGE, "int32", 0, 1)),
]
CASES["convert_to_tensor"] = [case(named("convert_to_tensor", dtype="int32"), IMAGE)]
CASES["array"] = [case(named("array", dtype="int32"), IMAGE)]
CASES["ones_like"].append(case(named("ones_like", dtype="int32"), IMAGE))
CASES["empty_like"] = [case(lambda x: ops.zeros_like(ops.empty_like(x)), IMAGE)]
CASES["full_like"] = [
    case(named("full_like", fill_value=2.5), IMAGE),
    case(lambda x, y: ops.full_like(x, ops.max(y)), IMAGE, VECTOR),
]
CASES["clip"] = [
    case(named("clip", x_min=-0.5, x_max=0.7), IMAGE),
    case(named("clip", x_min=0, x_max=3), Given(IMAGE, "int32", -3, 5)),
    case(lambda x, y: ops.clip(x, ops.min(y, 0), ops.max(y, 0)), IMAGE, VECTOR, inside=True),
    case(lambda x, y: ops.clip(x, ops.max(y) * 0.1, 0.7), IMAGE, VECTOR, inside=True),
]
CASES["digitize"] = [case(lambda x: ops.digitize(x, np.array([-1.0, 0.0, 1.0])), IMAGE)]

RELU = [
    case(lambda x, settings=settings: activations.relu(x, **settings), IMAGE)
    for settings in (
        {"negative_slope": 0.3},
        {"max_value": 1.1},
        {"threshold": 0.4},
        {"threshold": -0.4, "negative_slope": 0.3, "max_value": 1.2},
        {"negative_slope": 0.3, "max_value": 6},
        {"max_value": 6},
    )
]
"""ReLU layers with settings that the operation `relu` lacks."""
