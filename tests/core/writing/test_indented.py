"""JSON for people is written as by Python's own encoder."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keras3conv.writing import indented

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4) | st.tuples(inner, inner),
)


@pytest.mark.parametrize("ensure_ascii", [True, False])
@given(value=values)
def test_the_text_is_that_of_the_standard_library(value: object, *, ensure_ascii: bool) -> None:
    assert indented.dumps(value, ensure_ascii=ensure_ascii) == json.dumps(value, indent=1, ensure_ascii=ensure_ascii)


@pytest.mark.parametrize("value", [{1: 2}, {"a": b"b"}, {"a": {2}}])
def test_other_values_are_refused(value: object) -> None:
    with pytest.raises(TypeError):
        indented.dumps(value)
