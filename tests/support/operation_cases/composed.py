"""Cases of operations that a trace replaces by others: choices, loops over parts, and functions of several steps."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from keras import ops

from tests.support.operations import IMAGE, VECTOR, Case, Function, Given, named
from tests.support.operations import case as case_of


def case(function: Function, *inputs: Given | tuple[int | None, ...]) -> Case:
    """Return a case in which a layer calls the function: Keras cannot build a functional model of many of them."""
    return case_of(function, *inputs, inside=True)


COLOURS = Given((6, 5, 3), low=0.0, high=1.0)
_TURN = np.array([[0.8, 0.3, -0.4, -0.2, 1.1, 0.6, 0.0, 0.0]], "float32")
_PLANE = np.array([1, 1, 1, 1, 1, 1, 0, 0], "float32")


def _chosen(condition: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda x: ops.cond(condition(x), lambda: {"y": x * 2.0}, lambda: {"y": ops.sin(x)})["y"]


def _switched(index: Callable[[Any], Any]) -> Callable[[Any], Any]:
    branches = [lambda x: x * 2.0, ops.sin, lambda x: -x]
    return lambda x: ops.switch(index(x), branches, x)


def _computed(place: int) -> Callable[[Any], Any]:
    """Return a function that computes an index from a tensor, which is always the same."""
    return lambda x: ops.cast(0 * ops.sum(x), "int32") + place


def _affine(matrix: Callable[[Any], Any] = lambda y: ops.add(0 * y, _TURN), **settings: Any) -> Case:
    """Return a case of an affine transformation, which Keras computes for one example after the other."""
    one = case(lambda x, y: ops.image.affine_transform(x, matrix(y), **settings), IMAGE, (8,))
    return replace(one, keeps_shape=True)


def _recurrence(first: Any, second: Any) -> Any:
    """Join two steps of the recurrence state = x * state + y."""
    return first[0] * second[0], second[0] * first[1] + second[1]


def _placed(mode: str, order: int) -> Callable[[Any, Any], Any]:
    return lambda x, y: ops.image.map_coordinates(x[0], 6 * y[0], order=order, fill_mode=mode, fill_value=0.5)


CASES: dict[str, list[Case]] = {
    "cond": [
        case(_chosen(lambda x: ops.sum(x) > 0), VECTOR),
        case(_chosen(lambda x: ops.sum(x) > 1e6), VECTOR),
        case(_chosen(lambda _: True), VECTOR),
        case(_chosen(lambda x: ops.ndim(x) > 3), VECTOR),
    ],
    "switch": [
        *(case(_switched(_computed(place)), VECTOR) for place in (-1, 0, 1, 2, 7)),
        case(_switched(lambda _: 1), VECTOR),
    ],
    "map": [case(lambda x: ops.transpose(ops.map(lambda row: row[1:] * ops.sum(row), ops.transpose(x))), VECTOR)],
    "vectorized_map": [
        case(
            lambda x: ops.transpose(ops.vectorized_map(ops.cumsum, ops.transpose(x, (1, 0, 2, 3)))),
            IMAGE,
        ),
    ],
    "associative_scan": [
        case(lambda x, y: ops.associative_scan(_recurrence, (x, y), axis=1), (6, 3), (6, 3)),
        case(lambda x: ops.associative_scan(ops.maximum, x, axis=1, reverse=True), (6, 3)),
    ],
    "image.hsv_to_rgb": [
        case(named("image.hsv_to_rgb"), COLOURS),
        case(named("image.hsv_to_rgb", data_format="channels_first"), Given((3, 6, 5), low=0.0, high=1.0)),
    ],
    "image.sobel_edges": [
        case(named("image.sobel_edges", data_format="channels_last"), IMAGE),
        case(named("image.sobel_edges", data_format="channels_first"), IMAGE),
    ],
    "image.map_coordinates": [
        case(_placed(mode, order), (6, 5), (2, 7))
        for mode in ("constant", "nearest", "wrap", "mirror", "reflect")
        for order in (0, 1)
    ],
    "image.affine_transform": [
        _affine(),
        _affine(interpolation="nearest", fill_mode="reflect"),
        _affine(data_format="channels_first", fill_value=0.5),
        _affine(lambda y: ops.multiply(y, _PLANE)),
    ],
    "extract_sequences": [case(lambda x: ops.extract_sequences(x, 4, 3), (3, 11))],
    "linspace": [
        case(lambda x: ops.linspace(x[0, 0], x[0, 1], 5), VECTOR),
        case(lambda x: ops.linspace(x[0, 0], x[0, 1], 4, endpoint=False), VECTOR),
    ],
    "rearrange": [
        case(named("rearrange", pattern="b (h u) w c -> b w (u h c)", u=3), IMAGE),
        case(named("rearrange", pattern="b h w c -> b c h w"), IMAGE),
    ],
    "trapezoid": [
        case(named("trapezoid", axis=1, dx=0.5), IMAGE),
        case(lambda x: ops.trapezoid(x, x=np.array([0.0, 1.0, 3.0, 3.5], "float32")), IMAGE),
    ],
    "unravel_index": [case(lambda x: ops.stack(ops.unravel_index(x, (2, 3, 4)), -1), Given((5,), "int32", 0, 23))],
    "vander": [
        case(lambda x: ops.vander(x[0], N=3), VECTOR),
        case(lambda x: ops.vander(x[0], increasing=True), VECTOR),
    ],
}
"""The cases by the name of the operation in `keras.ops`."""

ROUNDED: dict[str, list[Case]] = {
    "image.gaussian_blur": [
        case(named("image.gaussian_blur", kernel_size=(3, 3), sigma=(1.0, 0.6), data_format="channels_last"), IMAGE),
        case(named("image.gaussian_blur", kernel_size=(5, 5), data_format="channels_first"), IMAGE),
    ],
}
"""The cases with a constant that the module stores in float32, so that a float64 run alone does not show equality."""
