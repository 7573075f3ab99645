"""On JAX, what every compilation costs beside the compilation itself is paid once."""

from collections.abc import Iterator
from functools import cache
from math import prod
from typing import Any

import keras
import numpy as np
import pytest

INITIALIZERS = ("RandomNormal", "RandomUniform", "TruncatedNormal", "VarianceScaling", "Orthogonal")
"""The initializers of Keras that draw random numbers; the others inherit from them."""


@pytest.fixture(scope="session", autouse=True)
def _quick_jax() -> Iterator[None]:
    """Let all compilations of JAX share one MLIR context, and draw the first values of weights with NumPy.

    JAX makes a context, and loads every dialect into it, for each of thousands of operations. The draws would be
    compiled for each shape of a weight; no test depends on them, because it writes the weights or copies them.
    """
    if keras.backend.backend() != "jax":
        yield
        return
    import jax
    from jax._src.interpreters import mlir

    generator = np.random.default_rng(0)

    def draw(_: object, shape: tuple[int, ...], dtype: Any = None, **options: object) -> Any:
        limit = (3 / max(1, prod(shape[:-1]))) ** 0.5
        return keras.ops.convert_to_tensor(generator.uniform(-limit, limit, shape), dtype or keras.config.floatx())

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mlir, "make_ir_context", cache(mlir.make_ir_context))
        for name in INITIALIZERS:
            patch.setattr(getattr(keras.initializers, name), "__call__", draw)
        jax.config.update("jax_traceback_in_locations_limit", 0)
        yield
