"""Restore the states of random generators after a public function, so that a seed of the user stays in effect.

Only public functions restore the states. Inside a public function, two runs of a model that draws random numbers must
differ, because that reveals that the model is random.
"""

import random
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import numpy as np

from keras3conv.numerics.difference import same_bits


@contextmanager
def random_state_kept() -> Iterator[None]:
    """Restore the random generators of Python, numpy and the loaded frameworks when the `with` block ends."""
    with ExitStack() as contexts:
        contexts.enter_context(_python_kept())
        if "torch" in sys.modules:
            contexts.enter_context(generators_kept())
        if "keras" in sys.modules:
            contexts.enter_context(_global_seed_kept())
        yield


@contextmanager
def _python_kept() -> Iterator[None]:
    before, numpy_before = random.getstate(), np.random.get_state()  # noqa: NPY002 - the user's code may draw from it
    try:
        yield
    finally:
        random.setstate(before)
        np.random.set_state(numpy_before)  # noqa: NPY002


@contextmanager
def _global_seed_kept() -> Iterator[None]:
    """Return a context manager that restores Keras' global seed generator when it ends, or removes it if it is new.

    Layers that were created without a seed generator draw their numbers from the global one.
    """
    from keras3conv.frameworks.keras.internals import GLOBAL_SEED_GENERATOR, global_state
    from keras3conv.frameworks.keras.values import to_numpy

    generator = global_state.get_global_attribute(GLOBAL_SEED_GENERATOR)
    before = [] if generator is None else [(generator.state, np.array(to_numpy(generator.state)))]
    try:
        yield
    finally:
        for variable, old in before:
            if not same_bits(to_numpy(variable), old):
                variable.assign(old)
        if global_state.get_global_attribute(GLOBAL_SEED_GENERATOR) is not generator:
            global_state.set_global_attribute(GLOBAL_SEED_GENERATOR, generator)


@contextmanager
def generators_kept() -> Iterator[None]:
    """Restore the states of torch's random generators, including those of CUDA devices in use."""
    import torch

    devices = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]  # torch does not annotate it
    before, of_devices = torch.get_rng_state(), torch.cuda.get_rng_state_all() if devices else []
    try:
        yield
    finally:
        torch.set_rng_state(before)
        if devices:
            torch.cuda.set_rng_state_all(of_devices)
