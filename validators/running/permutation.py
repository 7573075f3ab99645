"""Find out whether a transform only permutes the elements of its arrays."""

import math
from functools import lru_cache

import numpy as np

from keras3conv.transforms import Shape, Transform


@lru_cache(maxsize=1024)
def is_permutation(transform: Transform, shapes: tuple[Shape, ...]) -> bool:
    """Return whether a transform only permutes elements of arrays with these shapes, tested on `arange` arrays."""
    numbered, start = [], 1
    for shape in shapes:
        size = math.prod(shape)
        numbered.append(np.arange(start, start + size, dtype=np.float64).reshape(shape))
        start += size
    transformed = transform(tuple(numbered))
    if sum(array.size for array in transformed) != start - 1:
        return False
    seen = np.zeros(start, dtype=bool)
    for array in transformed:
        places = array.astype(np.int64)
        if not np.array_equal(places, array) or places.min(initial=1) < 1 or places.max(initial=1) >= start:
            return False
        seen[places.ravel()] = True
    return bool(seen[1:].all())
