"""Cases of operations that reorder, split and merge axes."""

import numpy as np
from keras import ops

from tests.support.operations import IMAGE, SEQUENCE, Case, Given, case, named

_SHAPES = (
    (30, 4), (6, 20), (120,), (5, 6, 4), (6, 5, 2, 2), (3, 2, 5, 4), (2, 3, 5, 4), (1, 30, 4), (6, 1, 5, 4),
    (120, 1), (30, 4, 1), (1, 1, 120),
)  # fmt: skip

CASES: dict[str, list[Case]] = {
    "reshape": [
        *(case(named("reshape", newshape=(-1, *sizes)), IMAGE) for sizes in _SHAPES),
        case(lambda x: ops.reshape(x, (ops.shape(x)[0], -1, 2, 2)), SEQUENCE, inside=True),
        case(lambda x: ops.reshape(x, (-1, ops.shape(x)[1] * 2, 2)), SEQUENCE, inside=True),
        case(named("reshape", newshape=(-1, 4)), SEQUENCE),
        case(named("reshape", newshape=(-1, 4)), IMAGE),
    ],
    "ravel": [case(named("ravel"), IMAGE)],
    "transpose": [
        *(case(named("transpose", axes=axes), IMAGE) for axes in ((0, 2, 3, 1), (3, 0, 1, 2))),
        case(named("transpose"), IMAGE, by_numpy=np.transpose),
    ],
    "swapaxes": [case(named("swapaxes", axis1=1, axis2=-1), IMAGE)],
    "moveaxis": [
        case(named("moveaxis", source=-1, destination=1), IMAGE),
        case(named("moveaxis", source=(1, 3), destination=(-1, 0)), IMAGE),
    ],
    "expand_dims": [case(named("expand_dims", axis=axis), IMAGE) for axis in (0, 1, -1, 3, (1, 3))],
    "squeeze": [
        case(named("squeeze", axis=1), (1, 5, 4)),
        case(named("squeeze"), (1, 5, 1)),
        case(named("squeeze", axis=(1, -1)), (1, 5, 1)),
    ],
    "broadcast_to": [
        case(lambda x: ops.broadcast_to(x, (ops.shape(x)[0], *IMAGE)), (6, 1, 4), inside=True),
        case(lambda x: ops.broadcast_to(ops.max(x, 0), (2, *IMAGE)), (6, 1, 4)),
        case(lambda x: ops.broadcast_to(x[0], (7, 4)), (4,)),
    ],
    "tile": [case(named("tile", repeats=repeats), IMAGE) for repeats in (2, (1, 2), (1, 2, 3, 1), (2, 1, 1, 2, 1))],
    "repeat": [
        *(case(named("repeat", repeats=count, axis=axis), IMAGE) for count, axis in ((2, 1), (3, -1), (2, None))),
        case(
            lambda x: ops.repeat(x, [1, 2, 0, 3], axis=-1),
            IMAGE,
            by_numpy=lambda x: x.repeat([1, 2, 0, 3], -1),
        ),
    ],
    "flip": [case(named("flip", axis=axis), IMAGE) for axis in (None, 1, -1, (1, 2))],
    "fliplr": [case(named("fliplr"), IMAGE)],
    "flipud": [case(named("flipud"), IMAGE)],
    "roll": [
        case(named("roll", shift=shift, axis=axis), IMAGE)
        for shift, axis in ((2, 1), (-3, -1), ((1, 2), (1, -1)), (5, None))
    ],
    "rot90": [case(named("rot90", k=k, axes=axes), IMAGE) for k in (1, 2, -1) for axes in ((1, 2), (3, 1))],
    "tril": [
        case(named("tril", k=1), IMAGE),
        case(lambda x: ops.tril(ops.transpose(x, (0, 2, 3, 1)), k=-1), IMAGE),
        case(lambda x: ops.tril(ops.swapaxes(x, 1, 2)), SEQUENCE),
    ],
    "triu": [
        case(named("triu", k=1), IMAGE),
        case(lambda x: ops.triu(ops.swapaxes(x, 1, 2), k=-1), SEQUENCE),
    ],
    "diag": [
        case(lambda x: ops.diag(x, k=1), (4,)),
        case(lambda x: ops.diag(x[0], k=-1), (4,)),
    ],
    "diagflat": [case(named("diagflat"), (4,))],
}
for _name in ("diagonal", "trace"):
    CASES[_name] = [
        case(named(_name, **settings), IMAGE)
        for settings in ({}, {"offset": 1, "axis1": 1, "axis2": 2}, {"offset": -1, "axis1": -1, "axis2": 1})
    ]
CASES["trace"].append(case(named("trace", axis1=1, axis2=2), Given(IMAGE, "int32")))
