"""For every operation of `keras.ops` that is written in torch the cases that it is tried with."""

from tests.support.operation_cases import (
    arithmetic,
    creation,
    images,
    joining,
    layers,
    pointwise,
    products,
    reduction,
    shape,
)
from tests.support.operations import Case

CASES: dict[str, list[Case]] = {
    **pointwise.CASES,
    **arithmetic.CASES,
    **reduction.CASES,
    **shape.CASES,
    **creation.CASES,
    **joining.CASES,
    **products.CASES,
    **layers.CASES,
    **images.CASES,
}
"""The cases by the operation's name in `keras.ops`."""
