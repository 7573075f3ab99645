"""Keep the state of the random generators of Python, numpy, torch and Keras, without an import of a framework."""

import random
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import numpy as np


@contextmanager
def random_state_kept() -> Iterator[None]:
    """Restore the generators of Python, numpy and the loaded frameworks, so that a seed of the user stays in effect.

    Only public functions do so. Inside a public function, two runs of a model that draws random numbers must differ,
    because that reveals that the model is random.
    """
    before, numpy_before = random.getstate(), np.random.get_state()  # noqa: NPY002 - the user's code may draw from it
    with ExitStack() as contexts:
        contexts.callback(np.random.set_state, numpy_before)
        contexts.callback(random.setstate, before)
        if "torch" in sys.modules:
            from keras3conv.frameworks.torch.modes import generators_kept

            contexts.enter_context(generators_kept())
        if "keras" in sys.modules:
            from keras3conv.frameworks.keras.state import global_seed_kept

            contexts.enter_context(global_seed_kept())
        yield
