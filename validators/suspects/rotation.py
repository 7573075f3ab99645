"""Rotations of query and key by their places: the frequencies, and how many of their digits were kept."""

from collections.abc import Iterator

import numpy as np

from keras3conv.transforms import Array
from keras3conv.validators.suspects.base import Case, Suspect, Suspicion

ROLE = "inv_freq"

ROUNDED = 1e-6
"""So far, relatively, are frequencies of single precision from the exact ones."""


def _rounded_frequencies(case: Case) -> Iterator[Suspicion]:
    exact = {}
    for path in case.tensors:
        name = path.rpartition(".")[2]
        if name == ROLE or (name.endswith(f"_{ROLE}") and not name.startswith("original")):  # a copy that nobody reads
            given = case.read(path)
            unrounded = _exact(given)
            if unrounded is not None:
                exact[path] = unrounded
    if exact:
        yield Suspicion(
            cause="the frequencies of the rotation are of single precision in torch, and exact in Keras",
            fix=f"# {', '.join(exact)}: at single precision the models agree",
            tensors=exact,
        )


def _exact(given: Array) -> Array | None:
    """The powers of a whole number, 1 / base ** (place / count), that these were rounded from; None if they were not.

    The formula is that of RoFormer (Su et al., 2021), equation 15.
    """
    if given.ndim != 1 or len(given) < 2 or not np.all(given > 0):
        return None
    values = given.astype(np.float64)
    places = np.arange(len(values)) / len(values)
    base = round(float(values[-1]) ** (-1 / places[-1]))
    exact = np.asarray(1.0 / float(base) ** places)
    return exact if np.all(np.abs(exact - values) <= ROUNDED * exact) else None


SUSPECTS = (Suspect("frequencies of a rotation", _rounded_frequencies),)
