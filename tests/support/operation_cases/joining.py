"""Cases of operations that concatenate, split and select."""

import numpy as np
from keras import layers, ops

from tests.support.operations import IMAGE, SEQUENCE, VECTOR, Case, Function, Given, case, named

_ROW = Given((7,), "int32", 0, 3)
_TABLE = Given((2, 3), "int32", -4, 3)
_CLASSES = Given((2, 3), "int32", -1, 4)


def _item(function: Function, numpy_only: bool = False) -> Case:
    return case(function, IMAGE, by_numpy=function if numpy_only else None)


_PLACES = np.array([3, 0, -2])
_BY_ARRAYS = (
    lambda x: x[None][0],
    lambda x: x[1:],
    lambda x: x[:, _PLACES],
    lambda x: x[:, [2, 1]],
    lambda x: x[:, _PLACES, :2],
    lambda x: x[:, _PLACES[:, None], _PLACES],
    lambda x: x[:, _PLACES, :, _PLACES],
    lambda x: x[:, 1, _PLACES],
    lambda x: x[:, _PLACES, None, 1:],
    lambda x: x[..., np.array([True, False, True, False])],
    lambda x: x[:, ops.argmax(x[:, :, 0, 0], axis=-1)],
)
"""Index expressions that an eager tensor accepts, and that Keras does not trace."""

SEGMENTS = [1, 0, 1, 2]


def _reduced(name: str, segments: list[int]) -> Case:
    """Return a case with the rows of the first image; a segment without rows is infinite, so it is left out."""
    count, used = max(segments) + 1, sorted({*segments})
    return case(
        lambda x: ops.take(getattr(ops, name)(x[0], np.array(segments), num_segments=count), used, axis=0), (4, 3)
    )


CASES: dict[str, list[Case]] = {
    "concatenate": [
        *(case(lambda x, y, axis=axis: ops.concatenate([x, y, x], axis=axis), IMAGE, IMAGE) for axis in (-1, 1, 0)),
        case(lambda x, y: ops.concatenate([x, y], axis=1), Given(IMAGE, "int32"), IMAGE),
        case(lambda x, y: ops.concatenate([x, y], axis=1), SEQUENCE, (3, 4)),
    ],
    "stack": [case(lambda x, y, axis=axis: ops.stack([x, y], axis=axis), IMAGE, IMAGE) for axis in (-1, 0, 1, 2)],
    "append": [
        case(named("append", axis=1), IMAGE, IMAGE),
        case(named("append"), IMAGE, VECTOR),
    ],
    "hstack": [case(lambda x, y: ops.hstack([x, y]), IMAGE, IMAGE)],
    "vstack": [case(lambda x, y: ops.vstack([x, y]), IMAGE, IMAGE)],
    "dstack": [case(lambda x, y: ops.dstack([x, y]), IMAGE, IMAGE)],
    "split": [
        case(named("split", indices_or_sections=parts, axis=axis), IMAGE)
        for parts, axis in ((2, 1), (2, -1), ([1, 3], 2), ([2], 1), (1, 1))
    ],
    "array_split": [case(named("array_split", indices_or_sections=3, axis=2), IMAGE)],
    "hsplit": [case(named("hsplit", indices_or_sections=[2]), IMAGE)],
    "vsplit": [case(lambda x: ops.vsplit(x[0], 2), IMAGE)],
    "dsplit": [case(named("dsplit", indices_or_sections=[2]), IMAGE)],
    "unstack": [
        *(case(named("unstack", axis=axis), IMAGE) for axis in (1, -1)),
        case(named("unstack", axis=1), (1, 4)),
    ],
    "meshgrid": [
        case(lambda x, y: ops.meshgrid(x[0], y[0]), VECTOR, (3,)),
        case(lambda x, y: ops.meshgrid(x[0], y[0], indexing="ij"), VECTOR, (3,)),
    ],
    "get_item": [
        _item(lambda x: x[:, 1]),
        _item(lambda x: x[..., 0]),
        _item(lambda x: x[:, ::2, 1:-1]),
        _item(lambda x: x[:, None]),
        _item(lambda x: x[..., None]),
        _item(lambda x: x[:, 1, None, 2, ...]),
        _item(lambda x: x[:, :, None, 1:3]),
        _item(lambda x: x[:, None, ..., 2, None]),
        _item(lambda x: x[:, -1, :, 2:]),
        _item(lambda x: x[0]),
        _item(lambda x: x[:, ::-1], numpy_only=True),
        _item(lambda x: x[..., ::-2], numpy_only=True),
        _item(lambda x: x[:, 4:1:-1, :, -1:0:-1], numpy_only=True),
        _item(lambda x: x[:, -2::-2], numpy_only=True),
        case(lambda x: x[:, :-1], SEQUENCE),
        case(lambda x: x[:, -1], SEQUENCE),
        case(lambda x: x[:, : ops.shape(x)[1] - 1], SEQUENCE, inside=True),
        *(case(function, IMAGE, inside=True) for function in _BY_ARRAYS),
        case(lambda x, i: x[ops.arange(ops.shape(x)[0]), i % 6], IMAGE, Given((), "int32", 0, 5), inside=True),
    ],
    "take": [
        *(case(lambda x, i, axis=axis: ops.take(x, i[0], axis=axis), IMAGE, _ROW) for axis in (-1, 1)),
        *(case(lambda x, i, axis=axis: ops.take(x, i[0], axis=axis), IMAGE, _TABLE) for axis in (-1, 2)),
        case(lambda x: ops.take(x, 2, axis=-1), IMAGE),
        case(lambda x: ops.take(x, [0, -1], axis=-1), IMAGE),
        case(lambda x: ops.take(x, [[0, 1], [2, -1]], axis=1), IMAGE),
        case(ops.take, VECTOR, _ROW),
        case(lambda x, i: ops.take(x, i[0], axis=1), IMAGE, Given((7,), "float32", 0, 3)),
        case(lambda x, i: ops.take(x[0], i, axis=0), IMAGE, _ROW),
    ],
    "take_along_axis": [
        *(case(named("take_along_axis", axis=axis), IMAGE, Given(IMAGE, "int32", -4, 3)) for axis in (-1, 1)),
        case(lambda x: ops.take_along_axis(x, ops.argsort(x, axis=1), axis=1), IMAGE),
        case(named("take_along_axis", axis=1), IMAGE, Given((2, 5, 4), "int32", -4, 3)),
    ],
    "slice": [case(lambda x: ops.slice(x, (0, 1, 2, 1), (1, 3, 2, 2)), IMAGE)],
    "slice_update": [
        case(lambda x, y: ops.slice_update(x, (0, 1, 2, 1), y), IMAGE, (3, 2, 2)),
        case(lambda x, y: ops.slice_update(x, (0, 0, 0, 1), y), IMAGE, (6, 5, 2)),
    ],
    "scatter": [case(lambda i, v: ops.scatter(i[0], v[0], (4, 3)), Given((5, 2), "int32", 0, 2), Given((5,), "int32"))],
    "scatter_update": [
        case(lambda x, i, v: ops.scatter_update(x[0], i[0], v[0]), (4, 3), Given((1, 2), "int32", 0, 2), (1,))
    ],
    "one_hot": [
        *(case(named("one_hot", num_classes=5, axis=axis), _CLASSES) for axis in (-1, 0, 1)),
        case(named("one_hot", num_classes=5, dtype="bool"), _CLASSES),
        case(named("one_hot", num_classes=5, dtype="int32"), _CLASSES),
        case(lambda x: layers.Dense(3)(ops.one_hot(x, 5)), _CLASSES),
    ],
    "multi_hot": [case(named("multi_hot", num_classes=5), _TABLE)],
    "searchsorted": [case(lambda x, y: ops.searchsorted(ops.sort(x[0]), y), VECTOR, IMAGE)],
    "segment_sum": [
        case(
            lambda x, i: ops.segment_sum(x[0], i[0], num_segments=5),
            Given((4, 3), "int32"),
            Given((4,), "int32", 0, 3),
        )
    ],
    "segment_max": [_reduced("segment_max", SEGMENTS), _reduced("segment_max", [0, 0, 3, 1])],
    "segment_min": [_reduced("segment_min", SEGMENTS)],
    "segment_prod": [_reduced("segment_prod", SEGMENTS), _reduced("segment_prod", [0, 0, 3, 1])],
}
