"""Contiguous copies: the same bits as `np.ascontiguousarray` for every view, in bounded memory."""

import json
import tracemalloc
from collections.abc import Callable
from math import prod
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks import bench_transforms
from keras3conv.errors import TransformError
from keras3conv.numerics import cache
from keras3conv.numerics import copying as transforms_move
from keras3conv.numerics.copying import contiguous, copy_into, own_copy
from keras3conv.transforms import Array

DTYPES = (
    *("bool", "int8", "uint16", "int32", "float16", "float32", ">f4", "float64", "complex64", "complex128", "S3", "U2"),
    np.dtype(ml_dtypes.bfloat16),
    np.dtype(ml_dtypes.float8_e4m3fn),
    np.dtype([("scale", "f4"), ("zero", "i4")]),
)
MIB = 1 << 20


def random(shape: tuple[int, ...], dtype: Any = "float32") -> Array:
    """Return an array of random bits, which contain NaNs, subnormal numbers and both zeros."""
    kind = np.dtype(dtype)
    if kind.kind in "bSU":
        return np.arange(prod(shape)).reshape(shape).astype(kind)
    bits = np.random.default_rng(0).bytes(prod(shape) * kind.itemsize)
    return np.frombuffer(bits, np.uint8).view(kind).reshape(shape) if bits else np.empty(shape, kind)


@st.composite
def views(draw: st.DrawFn) -> Array:
    """Draw a view with permuted axes, steps in both directions, and broadcast axes."""
    shape = tuple(draw(st.lists(st.integers(0, 9), max_size=5)))
    array = random(shape, draw(st.sampled_from(DTYPES)))
    steps = draw(st.lists(st.sampled_from([1, 1, 2, 3, -1, -2]), min_size=len(shape), max_size=len(shape)))
    array = array[tuple(slice(None, None, step) for step in steps)]
    array = array.transpose(draw(st.permutations(range(len(shape)))))
    if draw(st.booleans()):
        array = np.broadcast_to(array, (2, *array.shape))
    return array


@pytest.fixture
def always_tiles(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Make small arrays be copied in tiles of a few elements; return a list with one entry per array copied so."""
    moved = []
    move = transforms_move._move

    def counted(*arguments: Any, **keywords: Any) -> Any:
        moved.append(1)
        return move(*arguments, **keywords)

    for name, value in {"_SMALL": 2, "_RUN": 32, "_ROWS": 4}.items():
        monkeypatch.setattr(transforms_move, name, value)
    for name in ("_WAYS", "_SECOND_CACHE"):
        monkeypatch.setattr(cache, name, 0)
    monkeypatch.setattr(transforms_move, "_move", counted)
    return moved


def assert_same(result: Array, expected: Array) -> None:
    assert result.shape == expected.shape
    assert result.dtype == expected.dtype
    assert result.flags.c_contiguous
    assert result.tobytes() == expected.tobytes()


@given(views())
def test_contiguous_preserves_the_bytes_of_every_view(array: Array) -> None:
    assert_same(contiguous(array), array)


@pytest.mark.slow
def test_copying_in_tiles_preserves_the_bytes_of_every_view(always_tiles: list[int]) -> None:
    @settings(max_examples=150, derandomize=True)  # the count below needs the same views in every run
    @given(views())
    def law(array: Array) -> None:
        assert_same(contiguous(array), array)
        target = np.empty(array.shape[::-1], array.dtype).T
        copy_into(target, array)
        assert target.tobytes() == array.tobytes()

    law()
    assert len(always_tiles) > 20


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(
    ("shape", "order"),
    [
        ((520, 264), (1, 0)),
        ((260, 130, 3, 3), (2, 3, 1, 0)),
        ((3, 3, 130, 260), (3, 2, 0, 1)),
        ((96, 12, 64), (2, 1, 0)),
        ((8, 16, 8, 16, 8), (4, 3, 2, 1, 0)),
        ((66000, 2), (1, 0)),
    ],
)
def test_a_large_transpose_preserves_the_bytes_of_the_view(
    dtype: Any, shape: tuple[int, ...], order: tuple[int, ...]
) -> None:
    array = random(shape, dtype).transpose(order)
    assert_same(contiguous(array), array)


@pytest.mark.parametrize("dtype", ["float64", "float16", "int32", np.dtype(ml_dtypes.bfloat16), ">f4"], ids=str)
def test_a_cast_equals_the_cast_of_numpy(dtype: Any, always_tiles: list[int]) -> None:
    array = np.arange(-3000, 3000, dtype=np.float32).reshape(60, 100).T
    assert_same(contiguous(array, dtype=dtype), np.ascontiguousarray(array, dtype=dtype))
    assert_same(contiguous(array.T, dtype=dtype), np.ascontiguousarray(array.T, dtype=dtype))
    assert always_tiles


def test_a_contiguous_array_is_not_copied() -> None:
    array = random((300, 400))
    assert contiguous(array) is array
    assert contiguous(array, dtype="float32") is array
    assert np.shares_memory(contiguous(array[10:20]), array)


@pytest.mark.parametrize("make", [lambda array: contiguous(array.T), own_copy])
def test_a_copy_owns_its_data(make: Callable[[Array], Array]) -> None:
    for array in (random((3, 4)), random((300, 400)), random((1024, 1024))):
        result = make(array)
        assert result.flags.owndata
        assert result.flags.writeable
        assert not np.shares_memory(result, array)


def test_a_scalar_array_keeps_its_shape() -> None:
    assert contiguous(np.array(3.0)).shape == ()
    assert contiguous(np.array(3.0), dtype="float64").shape == ()
    assert own_copy(np.array(3.0)).shape == ()


def test_a_subclass_of_ndarray_becomes_a_plain_ndarray() -> None:
    masked = np.ma.masked_array(random((300, 400)), mask=False)
    assert type(contiguous(masked)) is type(contiguous(masked.T)) is type(own_copy(masked.T)) is np.ndarray


def test_an_object_array_is_copied_without_tiles(always_tiles: list[int]) -> None:
    array = np.array([object() for _ in range(300)], dtype=object).reshape(20, 15).T
    assert (contiguous(array) == array).all()
    assert not always_tiles


def test_copy_into_fills_a_transposed_target(always_tiles: list[int]) -> None:
    array = random((40, 50, 30))
    memory = np.zeros((64, 30, 50, 40), np.float32)
    copy_into(memory[7].transpose(2, 1, 0), array)
    assert always_tiles
    assert memory[7].transpose(2, 1, 0).tobytes() == array.tobytes()
    assert not memory[:7].any()
    assert not memory[8:].any()


def test_copy_into_accepts_overlapping_memory(always_tiles: list[int]) -> None:
    array = random((60, 60)).copy()
    expected = array.T.copy()
    copy_into(array, array.T)
    assert_same(array, expected)


def test_copy_into_rejects_a_shape_that_numpy_would_broadcast() -> None:
    with pytest.raises(TransformError, match=r"shape \(3,\) cannot be copied into an array of shape \(2, 3\)"):
        copy_into(np.empty((2, 3)), np.empty(3))


def test_the_comparison_detects_tiles_in_the_wrong_order(
    always_tiles: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    move = transforms_move._move
    monkeypatch.setattr(
        transforms_move, "_move", lambda axes, target, source, **rest: move(axes, target, source[::-1], **rest)
    )
    array = random((60, 100)).T
    with pytest.raises(AssertionError):
        assert_same(contiguous(array), array)
    assert always_tiles


@pytest.mark.parametrize(
    ("shape", "order"), [((4096, 4096), (1, 0)), ((2048, 912, 3, 3), (2, 3, 1, 0)), ((2, 1 << 23), (1, 0))]
)
def test_peak_memory_exceeds_the_result_by_less_than_two_mebibytes(
    shape: tuple[int, ...], order: tuple[int, ...]
) -> None:
    array = np.zeros(shape, np.float32).transpose(order)
    contiguous(array[:1])
    tracemalloc.start()
    try:
        result = contiguous(array)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert result.nbytes >= 64 * MIB
    assert peak - result.nbytes < 2 * MIB


def test_only_cache_unfriendly_transposes_are_copied_in_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    moved: list[tuple[int, ...]] = []
    monkeypatch.setattr(transforms_move, "_move", lambda axes, target, source, **_: moved.append(source.shape))
    for shape in ((1024, 1024), (768, 3072), (500, 500), (100, 2000), (256, 128)):
        contiguous(np.zeros(shape, np.float32).T)
    contiguous(np.zeros((64, 3, 7, 7), np.float32).transpose(2, 3, 1, 0))
    contiguous(np.zeros((768, 12, 64), np.float32).transpose(1, 0, 2))
    assert moved == [(1024, 1024), (3072, 768)]


@pytest.mark.parametrize(("wanted", "status"), [(1e-9, 0), (1e9, 1)])
def test_the_benchmark_fails_if_it_misses_a_target(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, wanted: float, status: int
) -> None:
    case = bench_transforms.Case((256, 256), (1, 0), wanted=wanted)
    monkeypatch.setattr(bench_transforms, "TARGETS", (case,))
    data, table = tmp_path / "result.json", tmp_path / "result.md"
    options = ["--quick", "--check", "--rounds", "1", "--json", str(data), "--markdown", str(table)]
    assert bench_transforms.main(options) == status
    assert [result["met"] for result in json.loads(data.read_text())["results"]] == [not status]
    assert table.read_text().count("| 256 256 | 1 0 | float32 |") == 1


@pytest.mark.parametrize("shape", [(3, 5), (600, 700), (64, 70, 3, 3)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_checked_copy_finds_a_single_value_that_is_not_finite(
    shape: tuple[int, ...], dtype: type, bad: float
) -> None:
    array: Array = np.random.default_rng(0).standard_normal(shape).astype(dtype)
    for place in (0, array.size // 2, array.size - 1):
        spoiled = array.copy()
        spoiled.flat[place] = bad
        assert not copy_into(np.empty(shape[::-1], dtype), spoiled.T, checked=True)
        assert not copy_into(np.empty(shape, dtype), spoiled, checked=True)
    for source in (array, array.T):
        target: Array = np.empty(source.shape, dtype)
        assert copy_into(target, source, checked=True)
        np.testing.assert_array_equal(target, source)
        assert not copy_into(target, source)  # nothing was looked at


def test_a_checked_cast_looks_at_the_values_that_are_written() -> None:
    array = np.full((600, 700), 1e300)
    with np.errstate(over="ignore"):
        assert not copy_into(np.empty((700, 600), np.float32), array.T, checked=True)
    assert copy_into(np.empty((700, 600), np.float32), np.ones((600, 700)).T, checked=True)


@pytest.mark.parametrize("place", [0, 1234, -1])
def test_a_bad_value_is_found_in_every_tile(always_tiles: list[int], place: int) -> None:
    array = np.linspace(-1, 1, 6000, dtype=np.float32).reshape(60, 100)
    assert copy_into(np.empty((100, 60), np.float32), array.T, checked=True)
    array.flat[place] = np.nan
    assert not copy_into(np.empty((100, 60), np.float32), array.T, checked=True)
    assert not copy_into(np.empty((100, 60), np.float64), array.T, checked=True)
    assert always_tiles


def test_nothing_is_known_of_values_that_are_not_floats() -> None:
    numbers = np.ones((600, 700), np.int32)
    assert not copy_into(np.empty((700, 600), np.int32), numbers.T, checked=True)
    assert not copy_into(np.empty((700, 600), np.complex64), numbers.T, checked=True)
