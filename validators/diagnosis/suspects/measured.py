"""What is read off the values: a factor in a branch, a scaling of the pixels, channels in another order."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from keras3conv.frameworks.torch.replay import Operation, TorchCall
from keras3conv.transforms import Array
from keras3conv.validators.diagnosis.suspects.base import VIEWS, Case, Suspect, Suspicion, doing

ENOUGH = 8
"""A channel with fewer values than this fits many scalings by chance."""

CLOSE = 1e-4
"""What is measured has to explain all but so much of the difference to be worth a trial."""

STEPS = 12
"""So many steps a search for a factor takes at most."""

_NEAR = 1e-4
"""So far apart, relatively, are the two factors that a slope is taken from."""

_DIGITS = 12
"""So many digits of a measured number are no noise."""

_ROOT = 1e-6
"""A factor that is searched for, and so near to the root of a whole number, is that root."""

_SAME = 1e-9
"""Measured numbers that differ by no more, relatively, are one number."""


def _factor(case: Case) -> Iterator[Suspicion]:
    """A number that Keras multiplies by, and torch does not (a scaled embedding)."""
    sources = [operation for operation in case.feeding if operation.result is not None]
    if case.ratio is None or not sources or abs(case.ratio - 1) < 1e-6:
        return
    ratio = case.ratio
    yield Suspicion(
        cause=f"Keras multiplies by {_told(ratio)} {case.where_keras}, torch does not",
        fix=f"x = x * {ratio!r}  # {case.where}",
        changes={sources[-1].key: lambda call: call.run() * ratio},
    )


def _told(number: float) -> str:
    """A number, with the root or the fraction that it is."""
    if abs(number - round(number)) <= _SAME * abs(number):
        return str(round(number))
    square, inverse = number**2, 2 / number
    if abs(square - round(square)) < 1e-5 * square:
        return f"{number:.6g} = sqrt({round(square)})"
    return (
        f"{number:.6g} = 1 / {inverse / 2:g}"
        if number < 0.1 and abs(inverse - round(inverse)) < 1e-5
        else f"{number:.6g}"
    )


def _branch(case: Case) -> Iterator[Suspicion]:
    """A factor on what is added to something else: it is measured by running torch with twice as much of it."""
    for operation in case.feeding[:-1]:
        if operation.result is None or operation.name in VIEWS:
            continue
        factor = _measured(case, operation)
        if factor is None or abs(factor - 1) < 1e-6:
            continue
        what = f"what {operation.owner or 'torch'} computes by {operation.name}"
        cause = f"Keras multiplies {what} by {_told(factor)}, torch does not"
        if abs(factor) < _SAME:
            factor, cause = 0.0, f"Keras leaves out {what}"
        fix = f"x = x * {factor!r}  # after {operation.name} in {operation.owner}"
        yield Suspicion(cause=cause, fix=fix, changes={operation.key: doing(_times, factor)})


def _measured(case: Case, operation: Operation) -> float | None:
    """The factor on an operation's result that brings torch to Keras; None if no factor does."""
    doubled = case.attempt({operation.key: doing(_times, 2.0)})
    if doubled is None or doubled.shape != case.wanted.shape:
        return None
    share = (doubled.astype(np.float64) - case.found).ravel()
    missing = (case.wanted.astype(np.float64) - case.found).ravel()
    square = float(share @ share)
    if not np.isfinite(square) or square == 0:
        return None
    more = float(share @ missing) / square
    left = np.max(np.abs(missing - more * share), initial=0.0)
    wrong = np.max(np.abs(missing), initial=0.0)
    if left <= CLOSE * wrong:
        return 1 + more
    return _searched(case, operation) if left <= wrong / 2 else None  # an activation is between


def _table(case: Case) -> Iterator[Suspicion]:
    """A factor on a table behind which a norm stands: of scale it leaves little, so it is searched for in steps."""
    for operation in case.before:
        if operation.name == "embedding":
            factor = _searched(case, operation)
            if factor is not None and abs(factor - 1) > 1e-6:
                yield Suspicion(
                    cause=f"Keras multiplies the rows of the table {operation.owner} by {_told(factor)}, torch does "
                    "not",
                    fix=f"x = x * {factor!r}  # after {operation.owner}",
                    changes={operation.key: doing(_times, factor)},
                )


def _searched(case: Case, operation: Operation) -> float | None:
    """The factor by the method of Gauss and Newton, the slope from two runs; None where it leads nowhere."""

    def at(factor: float) -> Array | None:
        made = case.attempt({operation.key: doing(_times, factor)})
        fits = made is not None and made.shape == case.wanted.shape
        return made.astype(np.float64) if fits and made is not None else None

    factor, wanted = 1.0, case.wanted.astype(np.float64)
    for _ in range(STEPS):
        here, beside = at(factor), at(factor * (1 + _NEAR))
        if here is None or beside is None:
            return None
        slope, missing = (beside - here).ravel() / (factor * _NEAR), (wanted - here).ravel()
        square = float(slope @ slope)
        if not np.isfinite(square) or square == 0:
            return None
        step = float(slope @ missing) / square
        factor += float(np.clip(step, -abs(factor) / 2, abs(factor) * 2))
        if abs(step) <= _SAME * abs(factor):
            break
    root = float(np.copysign(round(factor**2) ** 0.5, factor))
    return root if abs(root - factor) <= _ROOT * abs(factor) else factor


def _times(call: TorchCall, factor: float) -> Any:
    return call.run() * factor


def _pixels(case: Case) -> Iterator[Suspicion]:
    """Channels that are scaled and shifted, or reversed, as in the preprocessing of images."""
    sources = [operation for operation in case.feeding if operation.result is not None]
    if len(case.operations) < len(case.before):  # images are prepared before every other layer
        return
    if not sources or case.found.shape != case.wanted.shape or case.found.ndim < 2:
        return
    for reverse in (False, True):
        ours = case.found[..., ::-1] if reverse else case.found
        fitted = _fitted(ours, case.wanted)
        if fitted is None:
            continue
        scale, shift = fitted
        for axis in dict.fromkeys((1, -1)):
            yield Suspicion(
                cause=_scaling(case, reverse, scale, shift),
                fix=_line(case, reverse, scale, shift, axis),
                changes={sources[-1].key: doing(_scaled, reverse, scale, shift, axis)},
            )


def _fitted(ours: Array, theirs: Array) -> tuple[Array, Array] | None:
    """The scale and the shift of every channel that make one array the other; None where none do, or too many would."""
    channels = ours.shape[-1]
    first, second = (array.astype(np.float64).reshape(-1, channels) for array in (ours, theirs))
    if len(first) < ENOUGH or not (np.all(np.isfinite(first)) and np.all(np.isfinite(second))):
        return None
    means = first.mean(0), second.mean(0)
    centred, other = first - means[0], second - means[1]
    square = (centred**2).sum(0)
    if np.any(square == 0):
        return None
    scale = (centred * other).sum(0) / square
    shift = means[1] - scale * means[0]
    left = np.max(np.abs(first * scale + shift - second))
    return (_rounded(scale), _rounded(shift)) if left <= CLOSE * np.max(np.abs(first - second)) else None


def _rounded(values: Array) -> Array:
    """Measured numbers without the noise of measuring."""
    return np.array([0.0 if abs(value) < _SAME else float(f"{value:.{_DIGITS}g}") for value in values])


def _scaling(case: Case, reverse: bool, scale: Array, shift: Array) -> str:
    parts = ["takes the channels in reverse, BGR for RGB"] if reverse else []
    parts += [f"multiplies by {_numbers(scale)}"] if np.any(scale != 1) else []
    parts += [f"adds {_numbers(shift)}"] if np.any(shift != 0) else []
    return f"Keras {' and '.join(parts)} {case.where_keras}, torch does not"


def _numbers(values: Array) -> str:
    if np.ptp(values) <= _SAME * np.max(np.abs(values)):
        return _told(float(values[0]))
    shown = ", ".join(f"{value:.6g}" for value in values[:4])
    return f"({shown}{', ...' if len(values) > 4 else ''}), a number for each channel"


def _line(case: Case, reverse: bool, scale: Array, shift: Array, axis: int) -> str:
    flipped = f".flip({axis})" if reverse else ""
    return f"x = x{flipped}{_term('*', scale, case, axis)}{_term('+', shift, case, axis)}  # {case.where}"


def _term(sign: str, values: Array, case: Case, axis: int) -> str:
    if np.all(values == (1 if sign == "*" else 0)):
        return ""
    if np.ptp(values) <= _SAME * np.max(np.abs(values)):
        return f" {sign} {float(values[0])!r}"
    view = f".view(-1{', 1' * (case.found.ndim - 2)})" if axis == 1 and case.found.ndim > 2 else ""
    return f" {sign} torch.tensor({values.tolist()}){view}"


def _scaled(call: TorchCall, reverse: bool, scale: Array, shift: Array, axis: int) -> Any:
    values = call.run()
    shape = [1] * values.ndim
    shape[axis] = -1
    multiplied, added = (
        torch.tensor(array, dtype=values.dtype, device=values.device).reshape(shape) for array in (scale, shift)
    )
    return (values.flip(axis) if reverse else values) * multiplied + added


PIXELS = (
    Suspect("a factor that is measured", _factor),
    Suspect("scaling of the pixels", _pixels),
)

BRANCHES = (
    Suspect("a factor in a branch", _branch),
    Suspect("a factor on a table", _table),
)
