"""The test cases of every operation of `keras.ops` that has a translation to torch."""

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
    spectra,
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
    **spectra.CASES,
}
"""The cases by the name of the operation in `keras.ops`."""
