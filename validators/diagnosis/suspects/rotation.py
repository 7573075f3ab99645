"""Rotations of query and key by their places: the frequencies, and how many of their digits were kept."""

from collections.abc import Iterator
from itertools import combinations
from typing import Any

import numpy as np
import torch

from keras3conv.frameworks.torch.replay import Operation, TorchCall
from keras3conv.transforms import Array
from keras3conv.validators.diagnosis.suspects.base import Case, Suspect, Suspicion, doing, running

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
    exact = _powers(round(float(values[-1]) ** (-len(values) / (len(values) - 1))), len(values))
    return exact if np.all(np.abs(exact - values) <= ROUNDED * exact) else None


def _powers(base: float, number: int) -> Array:
    return np.asarray(1.0 / float(base) ** (np.arange(number) / number))


def _base(given: Array) -> float | None:
    exact = _exact(given)
    return None if exact is None else float(round(float(exact[-1]) ** (-len(exact) / (len(exact) - 1))))


_BASES = (1e4, 5e5, 1e6, 1e5)
"""Bases of the frequencies in models that people published."""

_LAST = 4
"""Of so many tensors that were cut into heads last, two are rotated."""

_KEYS = ("max_wavelength", "rope_max_wavelength", "rope_theta")


def _another_base(case: Case) -> Iterator[Suspicion]:
    bases = dict.fromkeys((*(base for key in _KEYS for base in case.in_keras(key)), *_BASES))
    given = {path: _base(case.read(path)) for path in case.tensors if path.rpartition(".")[2] == ROLE}
    known = {path: base for path, base in given.items() if base is not None}
    powers = [operation for operation in case.before if isinstance(_raised(operation), int | float)]
    for theirs in bases:
        changed = [path for path, ours in known.items() if ours != theirs]
        if changed:
            yield Suspicion(
                cause=f"the base of the rotation is {known[changed[0]]:g} in torch and {theirs:g} in Keras",
                fix=f"rope_theta={theirs:g}  # {', '.join(changed)}",
                tensors={path: _powers(theirs, len(case.read(path))) for path in changed},
            )
        for operation in powers:
            ours = _raised(operation)
            if ours != theirs and ours > 1:
                name = "input" if operation.name == "pow" else "dim"
                yield Suspicion(
                    cause=f"the base of the rotation is {ours:g} in torch and {theirs:g} in Keras",
                    fix=f"rope_theta={theirs:g}  # {operation.owner or case.where}",
                    changes={operation.key: running(**{name: theirs})},
                )


def _raised(operation: Operation) -> Any:
    """The number that is raised to the powers of a tensor."""
    names = {"pow": "input", "__rpow__": "dim", "rpow": "dim"}
    return operation.get(names[operation.name]) if operation.name in names else None


def _turned(case: Case) -> Iterator[Suspicion]:
    """Every cosine and sine there is: of no angle in Keras, or of the opposite one."""
    cosines, sines = ([operation.key for operation in case.before if operation.name == name] for name in ("cos", "sin"))
    if not cosines or not sines:
        return
    yield Suspicion(
        cause=f"torch rotates query and key by their places {case.where}, Keras does not",
        fix=f"query, key = rotary(query), rotary(key)  # {case.where_keras}",
        changes={
            **dict.fromkeys(cosines, lambda call: torch.ones_like(call.run())),
            **dict.fromkeys(sines, lambda call: torch.zeros_like(call.run())),
        },
    )
    yield Suspicion(
        cause="Keras rotates query and key the other way",
        fix=f"sin = -sin  # {case.where_keras}",
        changes=dict.fromkeys(sines, lambda call: -call.run()),
    )


def _interleaved(case: Case) -> Iterator[Suspicion]:
    """Which two features are rotated together: neighbours, or one of the first half and one of the second."""
    if not any(operation.name == "cos" for operation in case.before):
        return
    cuts = [operation for operation in case.before if operation.name in ("view", "reshape", "unflatten")]
    heads = [cut for cut in cuts if cut.result and len(cut.result) == 4 and cut.result[-1] % 2 == 0]
    for first, second in combinations(heads[-_LAST:], 2):
        for ours, theirs, back in (("halves", "neighbours", False), ("neighbours", "halves", True)):
            yield Suspicion(
                cause=f"torch rotates {ours} together, Keras {theirs}: the features of a head are in another order",
                fix=f"x = x.unflatten(-1, {(2, -1) if back else (-1, 2)}).transpose(-1, -2).flatten(-2)  "
                f"# query and key, {case.where}, after they are cut into heads",
                changes=dict.fromkeys((first.key, second.key), doing(_reordered, back)),
            )


def _reordered(call: TorchCall, back: bool) -> Any:
    made = call.run()
    return made.unflatten(-1, (2, -1) if back else (-1, 2)).transpose(-1, -2).flatten(-2)


SUSPECTS = (
    Suspect("frequencies of a rotation", _rounded_frequencies),
    Suspect("base of a rotation", _another_base),
    Suspect("no rotation, or the other way", _turned),
    Suspect("features that are rotated together", _interleaved),
)
