"""What random numbers are drawn from, put back after we have run models, and made some: a user's seed goes on to count.

Only at the borders of a public function. Within one, two runs of a model that draws must differ, or nobody would see
that it draws.
"""

import random
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import numpy as np


@contextmanager
def random_state_kept() -> Iterator[None]:
    """Puts back the states of Python's and numpy's generators, and of those of the frameworks that are loaded."""
    with ExitStack() as contexts:
        contexts.enter_context(_python_kept())
        if "torch" in sys.modules:
            from keras3conv.frameworks.torch.modes import generators_kept

            contexts.enter_context(generators_kept())
        if "keras" in sys.modules:
            from keras3conv.frameworks.keras.state import global_seed_kept

            contexts.enter_context(global_seed_kept())
        yield


@contextmanager
def _python_kept() -> Iterator[None]:
    before, numpy_before = random.getstate(), np.random.get_state()  # noqa: NPY002 - what a user's code draws from
    try:
        yield
    finally:
        random.setstate(before)
        np.random.set_state(numpy_before)  # noqa: NPY002


__all__ = ["random_state_kept"]
