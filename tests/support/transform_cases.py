"""Hypothesis strategies that draw a transform and argument shapes that fit it."""

import numpy as np
from hypothesis import strategies as st

from keras3conv import transforms
from keras3conv.transforms import (
    Axes,
    Beside,
    Chain,
    Diagonal,
    Dilate,
    Each,
    Same,
    Shapes,
    Shift,
    Skip,
    Split,
    Stack,
    Sum,
    Take,
    Transform,
)

Case = tuple[Transform, Shapes]
NAMESPACE = {name: getattr(transforms, name) for name in transforms.__all__}
"""Every name that the `repr` of a transform can contain, those of inverse transforms included."""

sizes = st.integers(1, 4)
shapes = st.lists(sizes, min_size=1, max_size=4).map(tuple)
seeds = st.integers(0, 2**32 - 1)


def axis_of(shape: tuple[int, ...]) -> st.SearchStrategy[int]:
    return st.integers(-len(shape), len(shape) - 1)


@st.composite
def grouped(draw: st.DrawFn, names: list[str]) -> list[list[str]]:
    """Draw a permutation of the names, cut into groups; an empty group is an axis of size one."""
    rest, groups = draw(st.permutations(names)), []
    while rest:
        size = draw(st.integers(1, min(3, len(rest))))
        groups.append(rest[:size])
        rest = rest[size:]
    if draw(st.booleans()):
        groups.insert(draw(st.integers(0, len(groups))), [])
    return groups


@st.composite
def axes_cases(draw: st.DrawFn) -> Case:
    names = [*"abcde"[: draw(st.integers(1, 5))]]
    left, right = draw(grouped(names)), draw(grouped(names))
    sizes_of = {name: draw(sizes) for name in names}
    merged = {name for group in left + right if len(group) > 1 for name in group}
    spelled = [[f"({' '.join(group)})" if group else "1" for group in side] for side in (left, right)]
    pattern = f"{draw(st.sampled_from([' ', '  ']))}".join(spelled[0]) + "->" + " ".join(spelled[1])
    shape = tuple(int(np.prod([sizes_of[name] for name in group])) for group in left)
    return Axes(pattern, **{name: sizes_of[name] for name in sorted(merged)}), (shape,)


@st.composite
def take_cases(draw: st.DrawFn) -> Case:
    order = tuple(draw(st.permutations(range(draw(sizes)))))
    shape = list(draw(shapes))
    axis = draw(axis_of(tuple(shape)))
    shape[axis] = len(order) * draw(st.integers(0, 3))
    return Take(axis, order), (tuple(shape),)


@st.composite
def split_cases(draw: st.DrawFn) -> Case:
    parts = tuple(draw(st.lists(st.integers(0, 3), min_size=1, max_size=4)))
    shape = list(draw(shapes))
    axis = draw(axis_of(tuple(shape)))
    shape[axis] = sum(parts)
    return Split(axis, parts), (tuple(shape),)


@st.composite
def stack_cases(draw: st.DrawFn) -> Case:
    shape = tuple(draw(st.lists(sizes, max_size=3)))
    count = draw(sizes)
    return Stack(draw(st.integers(-len(shape) - 1, len(shape))), count), (shape,) * count


@st.composite
def skip_cases(draw: st.DrawFn) -> Case:
    shape, count = list(draw(shapes)), draw(sizes)
    axis = draw(axis_of(tuple(shape)))
    shape[axis] += count
    return Skip(axis, count), (tuple(shape),)


@st.composite
def diagonal_cases(draw: st.DrawFn) -> Case:
    shape, groups = list(draw(st.lists(sizes, min_size=2, max_size=4))), draw(st.integers(2, 3))
    rows, columns = draw(st.permutations(range(len(shape))))[:2]
    shape[rows] *= groups
    return Diagonal(rows - draw(st.sampled_from([0, len(shape)])), columns, groups), (tuple(shape),)


@st.composite
def dilate_cases(draw: st.DrawFn) -> Case:
    shape = draw(shapes)
    return Dilate(draw(axis_of(shape)), draw(st.integers(2, 4))), (shape,)


shift_cases = st.tuples(st.sampled_from([Shift(1), Shift(-1), Shift(3)]), shapes.map(lambda shape: (shape,)))


def inverted(case: Case) -> Case:
    transform, given_shapes = case
    return transform.inverse, transform.shapes(given_shapes)


sum_cases = st.tuples(st.builds(Sum, sizes), shapes).map(lambda pair: (pair[0], (pair[1],) * pair[0].count))
same_cases = st.lists(shapes, min_size=1, max_size=3).map(lambda found: (Same(), tuple(found)))
single_cases: st.SearchStrategy[Case] = st.one_of(
    axes_cases(), take_cases(), skip_cases(), skip_cases().map(inverted), diagonal_cases(), dilate_cases(), shift_cases
)
plain_cases: st.SearchStrategy[Case] = st.one_of(
    single_cases,
    same_cases,
    split_cases(),
    split_cases().map(inverted),
    stack_cases(),
    stack_cases().map(inverted),
    sum_cases,
    sum_cases.map(inverted),
)


@st.composite
def each_cases(draw: st.DrawFn) -> Case:
    transform, given_shapes = draw(single_cases)
    return Each(transform), given_shapes * draw(sizes)


@st.composite
def beside_cases(draw: st.DrawFn) -> Case:
    pairs = draw(st.lists(single_cases, min_size=1, max_size=3))
    return Beside(*(transform for transform, _ in pairs)), tuple(shape for _, (shape,) in pairs)


@st.composite
def chain_cases(draw: st.DrawFn) -> Case:
    """Draw a chain of a transform and its inverse, or of a transform and one that accepts any arrays."""
    transform, given_shapes = draw(plain_cases)
    second = draw(st.sampled_from([transform.inverse, Same(), Each(Same()), Chain()]))
    return Chain(transform, second), given_shapes


cases: st.SearchStrategy[Case] = st.one_of(plain_cases, each_cases(), beside_cases(), chain_cases())
