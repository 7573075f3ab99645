"""Restore the states of random generators after a public function, so that a seed of the user stays in effect.

Only public functions restore the states. Inside a public function, two runs of a model that draws random numbers must
differ, because that reveals that the model is random.
"""

import random
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import numpy as np


@contextmanager
def random_state_kept() -> Iterator[None]:
    """Restore the random generators of Python, numpy and the loaded frameworks when the `with` block ends."""
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
    before, numpy_before = random.getstate(), np.random.get_state()  # noqa: NPY002 - the user's code may draw from it
    try:
        yield
    finally:
        random.setstate(before)
        np.random.set_state(numpy_before)  # noqa: NPY002
