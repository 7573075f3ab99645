"""Cases of reductions: over the first axis, the last, several, all; with and without keepdims; over a dynamic axis."""

from typing import Any

import numpy as np
from keras import layers, ops

from tests.support.operations import IMAGE, SEQUENCE, VECTOR, Case, Given, case, named

_AXES: tuple[dict[str, Any], ...] = (
    {},
    {"axis": -1},
    {"axis": 1, "keepdims": True},
    {"axis": (1, 2)},
    {"axis": (-1, 1), "keepdims": True},
    {"axis": 0},
)
_FLAGS = Given(IMAGE, "bool")
_WHOLE = Given(IMAGE, "int32", 1, 3)
_ALL_AXES = (
    "amax",
    "amin",
    "logsumexp",
    "max",
    "mean",
    "median",
    "min",
    "norm",
    "prod",
    "ptp",
    "std",
    "sum",
    "var",
    "nanmean",
    "nansum",
)

CASES: dict[str, list[Case]] = {
    name: [
        *(case(named(name, **settings), _FLAGS if name in ("all", "any") else IMAGE) for settings in _AXES),
        case(named(name, axis=1), Given(SEQUENCE, "bool") if name in ("all", "any") else SEQUENCE),
    ]
    for name in (*_ALL_AXES, "all", "any")
}
for _name in ("max", "mean", "median", "prod", "std", "sum"):
    CASES[_name].append(case(named(_name, axis=2), _WHOLE))
for _name in ("max", "mean", "prod", "sum"):
    CASES[_name].append(case(named(_name, axis=2), _FLAGS))
CASES["max"].append(case(named("max", axis=1, initial=0.5), IMAGE))
CASES["min"].append(case(named("min", axis=1, initial=-0.5), IMAGE))
CASES["norm"] += [case(named("norm", ord=level, axis=2), IMAGE) for level in (1, 3, float("inf"), float("-inf"))]
CASES["norm"] += [
    case(named("norm", ord=level, axis=axes, keepdims=axes[0] < 0), IMAGE)
    for level in (1, float("inf"), "fro", "nuc", -1)
    for axes in ((1, -1), (-1, 1))
]
CASES["normalize"] = [
    case(named("normalize", **settings), IMAGE)
    for settings in ({}, {"axis": 1}, {"axis": (1, 3)}, {"axis": 2, "order": 1}, {"axis": -1, "order": 3})
]
CASES["softmax"] = [
    case(named("softmax"), IMAGE),
    case(named("softmax", axis=1), IMAGE),
    case(named("softmax", axis=1), SEQUENCE),
    case(named("softmax", axis=(1, -1)), IMAGE, by_numpy=lambda x: np.exp(x) / np.exp(x).sum((1, 3), keepdims=True)),
]
CASES["log_softmax"] = [
    case(named("log_softmax"), IMAGE),
    case(named("log_softmax", axis=1), IMAGE),
    case(named("log_softmax", axis=(1, 2)), IMAGE, by_numpy=lambda x: x - np.log(np.exp(x).sum((1, 2), keepdims=True))),
]
CASES["sparsemax"] = [case(named("sparsemax", axis=axis), IMAGE) for axis in (-1, 1)]
CASES["glu"] = [case(named("glu", axis=axis), IMAGE) for axis in (-1, 1)]
for _name in ("argmax", "argmin"):
    CASES[_name] = [case(named(_name, **settings), IMAGE) for settings in _AXES if "(" not in str(settings)]
    CASES[_name].append(case(named(_name, axis=1), _FLAGS))
for _name in ("cumsum", "cumprod"):
    CASES[_name] = [case(named(_name, **settings), IMAGE) for settings in ({"axis": -1}, {"axis": 1}, {})]
    CASES[_name] += [case(named(_name, axis=1), _WHOLE), case(named(_name, axis=1), _FLAGS)]
    CASES[_name].append(case(named(_name, axis=2, dtype="int32"), IMAGE))
for _name in ("sort", "argsort"):
    CASES[_name] = [case(named(_name, axis=axis), IMAGE) for axis in (-1, 1, None)]
CASES["argsort"].append(case(named("argsort", axis=1), _WHOLE))
CASES["top_k"] = [case(named("top_k", k=2), IMAGE), case(lambda x: ops.top_k(x, 3)[1], SEQUENCE)]
CASES["moments"] = [
    case(named("moments", axes=(1, 2)), IMAGE),
    case(named("moments", axes=-1, keepdims=True), IMAGE),
]
CASES["diff"] = [case(named("diff", n=2, axis=1), IMAGE), case(named("diff"), IMAGE)]
CASES["quantile"] = [
    case(named("quantile", q=0.3, axis=(1, 2)), IMAGE),
    case(named("quantile", q=0.35, axis=1, keepdims=True), IMAGE),
]
CASES["percentile"] = [case(named("percentile", q=30, axis=-1), IMAGE)]
CASES["count_nonzero"] = [
    case(named("count_nonzero"), Given(IMAGE, "int32", 0, 1), by_numpy=np.count_nonzero),
    case(
        named("count_nonzero", axis=(1, 2, 3)),
        Given(IMAGE, "int32", 0, 1),
        by_numpy=lambda x: np.count_nonzero(x, axis=(1, 2, 3)),
    ),
]
CASES["average"] = [
    case(named("average"), IMAGE),
    case(named("average", axis=1), IMAGE),
    case(lambda x, y: ops.average(x, axis=-1, weights=y), IMAGE, Given(IMAGE, low=1.0)),
    case(lambda x, y: ops.average(x, axis=-1, weights=ops.max(y, axis=0)), IMAGE, Given(VECTOR, low=1.0)),
]

SOFTMAX_LAYERS = [
    case(layers.Softmax(axis=(1, 2)), IMAGE),
    case(layers.Softmax(axis=1), IMAGE),
    case(lambda x, y: layers.Softmax()(x, mask=y), IMAGE, Given((6, 5, 4), "bool")),
    case(lambda x, y: layers.Softmax()(x, mask=ops.cast(y, "float32")), IMAGE, Given((6, 5, 1), "bool")),
]
"""The Softmax layer, with masks that leave some rows empty."""
