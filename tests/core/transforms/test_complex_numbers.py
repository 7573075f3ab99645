"""Complex numbers as pairs of real numbers."""

import numpy as np
import pytest

from keras3conv.errors import TransformError
from keras3conv.transforms import Axes, Chain, ComplexParts, FromComplexParts, from_json

ARRAY = np.array([[1 + 2j, -0.0 - 1e-40j, np.nan + 3j], [4j, complex(0.0, -0.0), np.inf]])


@pytest.mark.parametrize(("kind", "real"), [("complex64", "float32"), ("complex128", "float64")])
def test_parts_stand_in_a_new_last_axis_and_come_back_bit_for_bit(kind: str, real: str) -> None:
    given = ARRAY.astype(kind)
    (parts,) = ComplexParts()((given,))
    assert (parts.shape, parts.dtype.name) == ((2, 3, 2), real)
    assert parts[0, 0].tolist() == [1.0, 2.0]
    (back,) = ComplexParts().inverse((parts,))
    assert (back.dtype, back.tobytes()) == (given.dtype, given.tobytes())


def test_a_permuted_array_and_a_scalar_have_parts_too() -> None:
    chain = Chain(ComplexParts(), Axes("a b c -> b a c"))
    for given in (ARRAY.T.astype("complex64"), np.asfortranarray(ARRAY)):
        (made,) = chain((given,))
        assert np.array_equal(made[..., 0], given.real.T, equal_nan=True)
        assert chain.inverse((made,))[0].tobytes() == np.ascontiguousarray(given).tobytes()
        assert chain.shapes((given.shape,)) == (made.shape,)
    (scalar,) = ComplexParts()((np.array(1 + 2j),))
    assert scalar.tolist() == [1.0, 2.0]


def test_the_inverse_of_the_inverse_and_the_json_are_equal() -> None:
    for transform in (ComplexParts(), FromComplexParts()):
        assert transform.inverse.inverse == transform
        assert from_json(transform.to_json()) == transform
        assert transform.lossless


def test_other_dtypes_and_shapes_are_refused() -> None:
    with pytest.raises(TransformError, match="takes complex numbers, not float32"):
        ComplexParts()((np.ones(3, "float32"),))
    with pytest.raises(TransformError, match="takes float32 or float64 numbers, not float16"):
        FromComplexParts()((np.ones((3, 2), "float16"),))
    for shape in ((3,), ()):
        with pytest.raises(TransformError, match="the last axis must have the size 2"):
            FromComplexParts().shapes((shape,))
