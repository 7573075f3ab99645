"""A float64 run restores the replaced backend functions, and computes the same function as float32."""

from contextlib import AbstractContextManager

import keras
import numpy as np
import pytest
from keras.src import backend

from keras3conv.frameworks.keras import float64_kernels
from keras3conv.frameworks.keras import model as keras_side
from keras3conv.numerics.difference import compare
from keras3conv.transforms import Array

STAND_INS = (float64_kernels._NN, float64_kernels._CORE)
NAMES = [*{name: 0 for stand_ins in STAND_INS for name in stand_ins.get(backend.backend(), {})}]


def own() -> list[object]:
    return [getattr(module, name) for module in (backend.nn, backend.core) for name in dir(module)]


def test_backend_functions_are_restored_also_after_an_error() -> None:
    before = own()
    with float64_kernels.float64_kernels():
        assert own() != before
    assert own() == before
    with pytest.raises(ValueError, match="planted"), float64_kernels.float64_kernels():
        raise ValueError("planted")
    assert own() == before


def float64() -> AbstractContextManager[None]:
    """Enter float64 mode without a model."""
    layer = keras.layers.Dense(1)
    layer.build((1, 1))
    return keras_side.float64_mode(layer)


@pytest.mark.skipif(keras_side.backend() != "torch", reason="the torch backend alone moves the channels in memory")
def test_a_float64_convolution_on_torch_keeps_the_memory_order_and_equals_the_float32_one() -> None:
    random = np.random.default_rng(3)
    image, kernel = (
        random.normal(size=(2, 9, 8, 5)).astype("float32"),
        random.normal(size=(3, 2, 5, 4)).astype("float32"),
    )

    def run(dtype: str) -> object:
        tensors = [keras.ops.convert_to_tensor(array.astype(dtype), dtype=dtype) for array in (image, kernel)]
        return keras.ops.conv(*tensors, strides=2, padding="same", data_format="channels_last")

    def channels_slowest(output: object) -> bool:
        strides = keras_side.to_numpy(output).strides
        return strides[3] == max(strides[1:])

    plain = run("float32")
    with float64():
        wide = run("float64")
    assert channels_slowest(wide)
    assert not channels_slowest(plain)
    assert compare(np.array(keras_side.to_numpy(plain)), np.array(keras_side.to_numpy(wide))).max_rel < 1e-5


def attend(**options: object) -> Array:
    """Attention with six query heads and three key heads."""
    random = np.random.default_rng(0)
    arrays = [random.normal(size=(2, *shape, 3)) for shape in ((4, 6), (5, 3), (5, 3))]
    tensors = [keras.ops.convert_to_tensor(array, dtype="float32") for array in arrays]
    plain = keras.ops.dot_product_attention(*tensors, **options)
    with float64():
        tensors = [
            keras.ops.convert_to_tensor(np.float32(array).astype("float64"), dtype="float64") for array in arrays
        ]
        found = np.array(keras_side.to_numpy(keras.ops.dot_product_attention(*tensors, **options)))
    assert found.dtype == "float64"
    assert compare(np.array(keras_side.to_numpy(plain)), found).max_rel < 1e-5
    return found


def test_float64_attention_equals_the_original_with_mask_bias_and_causal_order() -> None:
    random = np.random.default_rng(1)
    mask = random.random((2, 1, 4, 5)) > 0.4
    mask[..., 0] = True
    outputs = [
        attend(),
        attend(mask=keras.ops.convert_to_tensor(mask)),
        attend(is_causal=True),
        attend(bias=keras.ops.convert_to_tensor(random.normal(size=(2, 6, 4, 5)).astype("float32"))),
        attend(scale=0.7, mask=keras.ops.convert_to_tensor(mask), is_causal=True),
    ]
    for place, first in enumerate(outputs):
        assert all(compare(first, other).max_rel > 1e-3 for other in outputs[place + 1 :])


@pytest.mark.parametrize("pool", [keras.ops.max_pool, keras.ops.average_pool], ids=["max", "average"])
@pytest.mark.parametrize("padding", ["valid", "same"])
@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
def test_float64_pooling_over_three_axes_equals_float32_pooling(pool: object, padding: str, data_format: str) -> None:
    array = np.random.default_rng(2).normal(size=(2, 5, 6, 7, 3)).astype("float32")
    array = array if data_format == "channels_last" else np.ascontiguousarray(np.moveaxis(array, -1, 1))

    def pooled(dtype: str) -> Array:
        tensor = keras.ops.convert_to_tensor(array.astype(dtype), dtype=dtype)
        assert callable(pool)
        return np.array(keras_side.to_numpy(pool(tensor, (2, 3, 2), (2, 1, 3), padding, data_format)))

    narrow = pooled("float32")
    with float64():
        found = pooled("float64")
    assert found.dtype == "float64"
    assert compare(narrow, found).max_rel < 1e-6
