"""Propose mistakes in rotary position embeddings as causes: rounded frequencies, another base or direction."""

from collections.abc import Iterator
from itertools import combinations
from typing import Any

import numpy as np
import torch

from keras3conv.frameworks.torch.calls import Operation, TorchCall
from keras3conv.transforms import Array
from keras3conv.validators.diagnosis.suspects.base import Case, Hypothesis, Suspect, replaced_by, with_arguments

ROLE = "inv_freq"

ROUNDED = 1e-6
"""The largest relative difference between the exact frequencies of a rotary embedding and their float32 values."""


def _rounded_frequencies(case: Case) -> Iterator[Hypothesis]:
    exact = {}
    for path in case.torch.tensor_shapes:
        name = path.rpartition(".")[2]
        if name == ROLE or (name.endswith(f"_{ROLE}") and not name.startswith("original")):  # an unused copy
            frequencies = _exact(case.torch.read(path))
            if frequencies is not None:
                exact[path] = frequencies
    if exact:
        yield Hypothesis(
            cause="the frequencies of the rotary embedding are rounded to float32 in torch, and exact in Keras",
            fix=f"# {', '.join(exact)}: in float32 the models agree",
            tensors=exact,
        )


def _exact(frequencies: Array) -> Array | None:
    """Return the exact frequencies of a rotary embedding from float32 ones; None if these follow no known formula.

    The formula is 1 / base ** (index / count) with an integer base: RoFormer (Su et al., 2021), equation 15.
    """
    if frequencies.ndim != 1 or len(frequencies) < 2 or not np.all(frequencies > 0):
        return None
    values = frequencies.astype(np.float64)
    exact = _powers(round(float(values[-1]) ** (-len(values) / (len(values) - 1))), len(values))
    return exact if np.all(np.abs(exact - values) <= ROUNDED * exact) else None


def _powers(base: float, number: int) -> Array:
    return np.asarray(1.0 / float(base) ** (np.arange(number) / number))


def _base(frequencies: Array) -> float | None:
    exact = _exact(frequencies)
    return None if exact is None else float(round(float(exact[-1]) ** (-len(exact) / (len(exact) - 1))))


_BASES = (1e4, 5e5, 1e6, 1e5)
"""The bases of rotary frequencies in published models."""

_LAST = 4
"""The number of most recently split tensors among which the rotated query and key are searched."""

_KEYS = ("max_wavelength", "rope_max_wavelength", "rope_theta")


def _another_base(case: Case) -> Iterator[Hypothesis]:
    bases = dict.fromkeys((*(base for key in _KEYS for base in case.keras_numbers(key)), *_BASES))
    torch_bases: dict[str, float] = {}
    for path in case.torch.tensor_shapes:
        base = _base(case.torch.read(path)) if path.rpartition(".")[2] == ROLE else None
        if base is not None:
            torch_bases[path] = base
    powers = [
        operation for operation in case.torch.operations_before if isinstance(_power_base(operation), int | float)
    ]
    for keras_base in bases:
        changed = [path for path, torch_base in torch_bases.items() if torch_base != keras_base]
        if changed:
            yield Hypothesis(
                cause=_other_base(torch_bases[changed[0]], keras_base),
                fix=f"rope_theta={keras_base:g}  # {', '.join(changed)}",
                keras=f"rope_max_wavelength={torch_bases[changed[0]]:g}  # {case.where_keras}",
                tensors={path: _powers(keras_base, len(case.torch.read(path))) for path in changed},
            )
        for operation in powers:
            torch_base = _power_base(operation)
            if torch_base != keras_base and torch_base > 1:
                name = "input" if operation.name == "pow" else "dim"
                yield Hypothesis(
                    cause=_other_base(torch_base, keras_base),
                    fix=f"rope_theta={keras_base:g}  # {case.place(operation)}",
                    keras=f"rope_max_wavelength={torch_base:g}  # {case.where_keras}",
                    changes={operation.key: with_arguments(**{name: keras_base})},
                )


def _other_base(torch_base: float, keras_base: float) -> str:
    return f"the base of the rotary embedding is {torch_base:g} in torch and {keras_base:g} in Keras"


def _power_base(operation: Operation) -> Any:
    """Return the base of an operation `base ** tensor` with a number as base; None for any other operation."""
    names = {"pow": "input", "__rpow__": "dim", "rpow": "dim"}
    return operation.get(names[operation.name]) if operation.name in names else None


def _other_rotation(case: Case) -> Iterator[Hypothesis]:
    """Yield hypotheses that Keras does not rotate positions, or rotates them in the opposite direction.

    Each hypothesis changes every cosine and sine.
    """
    cosines = [operation.key for operation in case.torch.operations_before if operation.name == "cos"]
    sines = [operation.key for operation in case.torch.operations_before if operation.name == "sin"]
    if not cosines or not sines:
        return
    yield Hypothesis(
        cause=f"torch applies a rotary embedding to query and key {case.where}, Keras does not",
        keras=f"query, key = rotary(query), rotary(key)  # {case.where_keras}",
        changes={
            **dict.fromkeys(cosines, lambda call: torch.ones_like(call.run())),
            **dict.fromkeys(sines, lambda call: torch.zeros_like(call.run())),
        },
    )
    yield Hypothesis(
        cause="Keras rotates query and key in the opposite direction",
        keras=f"sin = -sin  # {case.where_keras}",
        changes=dict.fromkeys(sines, lambda call: -call.run()),
    )


def _interleaved(case: Case) -> Iterator[Hypothesis]:
    """Yield hypotheses that Keras rotates different pairs of features: neighbours, or one feature from each half."""
    if not any(operation.name == "cos" for operation in case.torch.operations_before):
        return
    splits = [
        operation for operation in case.torch.operations_before if operation.name in ("view", "reshape", "unflatten")
    ]
    heads = [split for split in splits if split.result and len(split.result) == 4 and split.result[-1] % 2 == 0]
    for first, second in combinations(heads[-_LAST:], 2):
        for torch_pairs, keras_pairs, sizes in (("halves", "neighbours", (-1, 2)), ("neighbours", "halves", (2, -1))):
            yield Hypothesis(
                cause=f"torch rotates pairs of {torch_pairs}, Keras pairs of {keras_pairs}: the features of a head are "
                "in another order",
                fix=f"x = x.unflatten(-1, {sizes}).transpose(-1, -2).flatten(-2)  "
                f"# query and key, {case.where}, after they are split into heads",
                keras=f"# {case.where_keras}: rotate pairs of {torch_pairs}",
                changes=dict.fromkeys((first.key, second.key), replaced_by(_with_features_reordered, sizes)),
            )


def _with_features_reordered(call: TorchCall, sizes: tuple[int, int]) -> Any:
    return call.run().unflatten(-1, sizes).transpose(-1, -2).flatten(-2)


SUSPECTS = (
    Suspect("frequencies of a rotary embedding", _rounded_frequencies),
    Suspect("base of a rotary embedding", _another_base),
    Suspect("rotary embedding missing or reversed", _other_rotation),
    Suspect("feature pairs of a rotary embedding", _interleaved),
)
