"""padding="same" against the required number of windows."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keras3conv.errors import RuleError
from keras3conv.rules.helpers.padding import same_padding

small = st.integers(1, 6)


@given(st.integers(1, 40), small, small, small)
def test_same_padding_is_the_least_padding_with_one_output_per_stride(
    size: int, window: int, stride: int, dilation: int
) -> None:
    start, end = same_padding(size, window, stride, dilation)
    reach = dilation * (window - 1) + 1
    wanted = -(-size // stride)
    assert 0 <= end - start <= 1
    assert (size + start + end - reach) // stride + 1 >= wanted
    assert not start + end or (size + start + end - 1 - reach) // stride + 1 < wanted


@given(small, small)
def test_same_padding_with_stride_one_does_not_need_the_input_size(window: int, dilation: int) -> None:
    assert same_padding(None, window, 1, dilation) == same_padding(17, window, 1, dilation)


def test_same_padding_with_a_stride_needs_the_input_size() -> None:
    with pytest.raises(RuleError, match="depends on the size of the input"):
        same_padding(None, 3, 2)
