"""Any bytes are refused with a `FileError`, or read as by the library of the format."""

import json
import random
import struct
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support import fuzzing
from tests.support.pickles import pickled

SEEDS = {name: fuzzing.seed(name) for name in fuzzing.TARGETS}

numbers = st.integers(-2, 40) | st.sampled_from([2**31, 2**40, 2**63, 2**70]) | st.floats() | st.booleans()
names = st.text(max_size=5) | st.sampled_from(["__metadata__", "é", "e\u0301"])
entries = st.fixed_dictionaries(
    {
        "dtype": st.sampled_from(["F32", "BF16", "U8", "F8_E4M3", "I64", "F4", "x"]),
        "shape": st.lists(numbers, max_size=3),
        "data_offsets": st.lists(numbers, min_size=1, max_size=3),
    }
)


@pytest.mark.parametrize("name", fuzzing.TARGETS)
def test_the_good_file_is_accepted(name: str) -> None:
    assert fuzzing.TARGETS[name][0](SEEDS[name])


@pytest.mark.parametrize("name", fuzzing.TARGETS)
@settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
@given(number=st.integers(0, 2**32))
def test_any_accepted_mutated_file_is_also_accepted_by_the_library(name: str, number: int) -> None:
    fuzzing.TARGETS[name][0](fuzzing.changed(SEEDS[name], random.Random(number)))


@given(
    header=st.dictionaries(names, entries | st.dictionaries(names, names, max_size=2), max_size=3),
    size=st.integers(0, 60),
)
def test_any_accepted_header_is_also_accepted_by_the_library(header: Any, size: int) -> None:
    raw = json.dumps(header, allow_nan=True).encode()
    fuzzing.safetensors(struct.pack("<Q", len(raw)) + raw + bytes(size))


@given(
    shapes=st.lists(
        st.tuples(st.sampled_from([(), (0,), (2,), (2, 3)]), st.sampled_from(["F32", "U8", "BF16"])), max_size=4
    )
)
def test_a_header_that_describes_its_file_is_accepted(shapes: Any) -> None:
    header, end = {}, 0
    for place, (shape, dtype) in enumerate(shapes):
        size = {"F32": 4, "U8": 1, "BF16": 2}[dtype]
        for length in shape:
            size *= length
        header[str(place)] = {"dtype": dtype, "shape": list(shape), "data_offsets": [end, end + size]}
        end += size
    raw = json.dumps(header).encode()
    assert fuzzing.safetensors(struct.pack("<Q", len(raw)) + raw + bytes(end))


@given(
    body=st.lists(
        st.sampled_from([bytes([code]) for code in b"()]}.0KMNQRabehlqstu\x81\x85\x86\x87\x88\x8f\x90\x91\x93\x94"])
        | st.binary(max_size=4),
        max_size=30,
    )
)
def test_any_accepted_pickle_is_also_accepted_by_python(body: list[bytes]) -> None:
    fuzzing.pickle(pickled(b"".join(body)))
