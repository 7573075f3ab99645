"""Propose causes whose numbers can be fitted from the values: a factor, pixel preprocessing, reversed channels."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from keras3conv.frameworks.torch.calls import Operation, TorchCall
from keras3conv.transforms import Array
from keras3conv.validators.diagnosis.suspects.base import VIEWS, Case, Hypothesis, Suspect, replaced_by
from keras3conv.validators.diagnosis.suspects.in_keras import in_keras

FEWEST_VALUES = 8
"""Smallest number of values per channel for a fit: with fewer, many scalings fit by chance."""

CLOSE = 1e-4
"""A fit is tried only if its residual is at most this fraction of the original difference."""

STEPS = 12
"""The largest number of steps in the Gauss-Newton search for a factor."""

_SLOPE_STEP = 1e-4
"""The relative step of the finite difference that estimates the slope in the search for a factor."""

_DIGITS = 12
"""The number of significant digits to which a fitted number is rounded."""

_ROOT = 1e-6
"""A fitted factor within this relative distance of the square root of an integer is replaced by that root."""

_SAME = 1e-9
"""Largest relative difference at which two fitted numbers count as equal."""

_LAST_DIGITS = 1e-14
"""The relative rounding error of a fitted number: 2.4999999999999996 is read as 2.5."""

_ROUNDED = 1e-6
"""Largest relative difference between a number that is fitted to float32 values and the number that was meant."""

_CHANGED = 5e-3
"""Smallest difference between a fitted factor and 1; a smaller difference is a side effect of another cause."""


def _factor(case: Case) -> Iterator[Hypothesis]:
    """Yield hypotheses that Keras multiplies by a number and torch does not (a scaled embedding)."""
    sources = [operation for operation in case.torch.upstream if operation.result is not None]
    if case.ratio is None or not sources or abs(case.ratio - 1) < _CHANGED or _have_other_weights(case):
        return
    ratio = case.ratio
    yield Hypothesis(
        cause=f"Keras multiplies by {_number(ratio)} {case.where_keras}, torch does not",
        fix=f"x = x * {_exact(ratio)!r}  # {case.where}",
        keras=f"x = x / {_exact(ratio)!r}  # {case.where_keras}",
        changes={sources[-1].key: lambda call: call.run() * ratio},
    )


def _have_other_weights(case: Case) -> bool:
    """Return whether a layer before the point has other weights in Keras; a factor may then be one of its weights."""
    return any(case.plan.is_changed(one.owner) for one in (*case.torch.operations_before, *case.torch.operations))


def _number(number: float) -> str:
    """Format a number as an integer, a square root or a fraction if it is one, else as a decimal number."""
    if abs(number - round(number)) <= _ROUNDED * abs(number):
        return str(round(number))
    square = number**2
    if abs(square - round(square)) < 1e-5 * square:
        return f"{number:.6g} = sqrt({round(square)})"
    halves = 2 / number
    if number < 0.1 and abs(halves - round(halves)) < 1e-5:  # 1 / 127.5 too
        return f"{number:.6g} = 1 / {halves / 2:g}"
    return f"{number:.6g}"


def _exact(number: float) -> float:
    """Return the integer, square root, fraction or short decimal that a fitted number approximates; else the number."""
    whole, root = float(round(number)), round(number**2) ** 0.5
    halves = round(2 / number) if abs(number) > _SAME else 0
    for exact in (whole, root, -root, 2 / halves if halves else whole):
        if abs(number - exact) <= _ROUNDED * abs(number):
            return exact
    decimal = float(f"{number:.12g}")
    return decimal if abs(number - decimal) <= _LAST_DIGITS * abs(number) else number


def _branch(case: Case) -> Iterator[Hypothesis]:
    """Yield hypotheses that Keras multiplies a branch by a factor, computed from a torch run with it doubled."""
    for operation in () if _have_other_weights(case) else case.torch.upstream[:-1]:
        if operation.result is None or operation.name in VIEWS:
            continue
        factor = _fitted_factor(case, operation)
        if factor is None or abs(factor - 1) < _CHANGED:
            continue
        result = f"the result of {operation.name} in {operation.owner or 'torch'}"
        cause = f"Keras multiplies {result} by {_number(factor)}, torch does not"
        if abs(factor) < _SAME:
            factor, cause = 0.0, f"Keras omits {result}"
        fix = f"x = x * {_exact(factor)!r}  # after {operation.name} in {operation.owner}"
        keras = f"x = x / {_exact(factor)!r}  # {case.where_keras}, on this branch alone, or without the factor"
        keras = keras if factor else in_keras(case, operation)
        yield Hypothesis(cause=cause, fix=fix, keras=keras, changes={operation.key: replaced_by(_times, factor)})


def _fitted_factor(case: Case, operation: Operation) -> float | None:
    """Return the factor that, on the result of an operation, makes torch's value equal Keras'.

    Return None if there is no such factor.
    """
    doubled = case.rerun({operation.key: replaced_by(_times, 2.0)})
    if doubled is None or doubled.shape != case.keras.value.shape:
        return None
    share = (doubled.astype(np.float64) - case.torch.value).ravel()
    missing = (case.keras.value.astype(np.float64) - case.torch.value).ravel()
    square = float(share @ share)
    if not np.isfinite(square) or square == 0:
        return None
    extra = float(share @ missing) / square
    with np.errstate(invalid="ignore"):  # infinite values give NaN, which is not close
        residual = np.max(np.abs(missing - extra * share), initial=0.0)
    difference = np.max(np.abs(missing), initial=0.0)
    if residual <= CLOSE * difference:
        return 1 + extra
    # An activation in between makes the dependence on the factor nonlinear.
    return _searched_factor(case, operation) if residual <= difference / 2 else None


def _table(case: Case) -> Iterator[Hypothesis]:
    """Yield hypotheses that Keras multiplies an embedding table by a factor, before a normalisation.

    The normalisation makes the effect of the factor nonlinear, so the factor is searched iteratively.
    """
    for operation in case.torch.operations_before:
        if operation.name == "embedding":
            factor = _searched_factor(case, operation)
            if factor is not None and abs(factor - 1) > _CHANGED:
                yield Hypothesis(
                    cause=f"Keras multiplies the embedding table {operation.owner} by {_number(factor)}, torch "
                    "does not",
                    fix=f"x = x * {_exact(factor)!r}  # after {operation.owner}",
                    keras=f"# {case.where_keras}: without the factor {_exact(factor)!r} of the embedding table",
                    changes={operation.key: replaced_by(_times, factor)},
                )


def _searched_factor(case: Case, operation: Operation) -> float | None:
    """Return a factor on a tensor that makes torch's value equal Keras', by the Gauss-Newton method.

    Return None if torch raises.
    """

    def value_at(factor: float) -> Array | None:
        value = case.rerun({operation.key: replaced_by(_times, factor)})
        if value is None or value.shape != case.keras.value.shape:
            return None
        return value.astype(np.float64)

    factor, keras_value = 1.0, case.keras.value.astype(np.float64)
    for _ in range(STEPS):
        value, value_nearby = value_at(factor), value_at(factor * (1 + _SLOPE_STEP))
        if value is None or value_nearby is None:
            return None
        slope = (value_nearby - value).ravel() / (factor * _SLOPE_STEP)
        missing = (keras_value - value).ravel()
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


def _pixels(case: Case) -> Iterator[Hypothesis]:
    """Yield hypotheses that Keras scales, shifts or reverses the channels, as image preprocessing does."""
    sources = [operation for operation in case.torch.upstream if operation.result is not None]
    if len(case.torch.operations) < len(case.torch.operations_before):  # images are preprocessed before the first layer
        return
    if not sources or case.torch.value.shape != case.keras.value.shape or case.torch.value.ndim < 2:
        return
    for reverse in (False, True):
        torch_value = case.torch.value[..., ::-1] if reverse else case.torch.value
        fitted = _fitted_scaling(torch_value, case.keras.value)
        if fitted is None:
            continue
        scale, shift = fitted
        for axis in dict.fromkeys((1, -1)):
            yield Hypothesis(
                cause=_scaling(case, reverse, scale, shift),
                fix=_pixel_line(case, reverse, scale, shift, axis),
                keras=_undone(case, reverse, scale, shift),
                changes={sources[-1].key: replaced_by(_scaled, reverse, scale, shift, axis)},
            )


def _fitted_scaling(torch_value: Array, keras_value: Array) -> tuple[Array, Array] | None:
    """Fit a scale and a shift per channel with keras = scale * torch + shift.

    Return None if the fit is poor, or if a channel has fewer than `FEWEST_VALUES` values.
    """
    channels = torch_value.shape[-1]
    torch_rows, keras_rows = (array.astype(np.float64).reshape(-1, channels) for array in (torch_value, keras_value))
    are_finite = np.all(np.isfinite(torch_rows)) and np.all(np.isfinite(keras_rows))
    if len(torch_rows) < FEWEST_VALUES or not are_finite:
        return None
    torch_mean, keras_mean = torch_rows.mean(0), keras_rows.mean(0)
    centred = torch_rows - torch_mean
    square = (centred**2).sum(0)
    if np.any(square == 0):
        return None
    scale = (centred * (keras_rows - keras_mean)).sum(0) / square
    shift = keras_mean - scale * torch_mean
    residual = np.max(np.abs(torch_rows * scale + shift - keras_rows))
    if residual > CLOSE * np.max(np.abs(torch_rows - keras_rows)):
        return None
    return _rounded(scale), _rounded(shift)


def _rounded(values: Array) -> Array:
    """Round fitted numbers to `_DIGITS` significant digits."""
    return np.array([0.0 if abs(value) < _SAME else float(f"{value:.{_DIGITS}g}") for value in values])


def _scaling(case: Case, reverse: bool, scale: Array, shift: Array) -> str:
    parts = []
    if reverse:
        parts.append("reverses the channels (BGR instead of RGB)")
    if np.any(scale != 1):
        parts.append(f"multiplies by {_per_channel(scale)}")
    if np.any(shift != 0):
        parts.append(f"adds {_per_channel(shift)}")
    return f"Keras {' and '.join(parts)} {case.where_keras}, torch does not"


def _per_channel(values: Array) -> str:
    if np.ptp(values) <= _SAME * np.max(np.abs(values)):
        return _number(float(values[0]))
    shown = ", ".join(f"{value:.6g}" for value in values[:4])
    return f"({shown}{', ...' if len(values) > 4 else ''}) per channel"


def _pixel_line(case: Case, reverse: bool, scale: Array, shift: Array, axis: int) -> str:
    flipped = f".flip({axis})" if reverse else ""
    return f"x = x{flipped}{_term('*', scale, case, axis)}{_term('+', shift, case, axis)}  # {case.where}"


def _undone(case: Case, reverse: bool, scale: Array, shift: Array) -> str:
    """Return the line for Keras that takes back a scaling, a shift and a reversal of the channels."""
    if not np.all(scale):
        return f"# {case.where_keras}: without this scaling, as torch"
    shifted = "" if np.all(shift == 0) else f" + {_values(-shift)}"
    line = f"(x{shifted}) / {_values(scale)}" if shifted else f"x / {_values(scale)}"
    line = f"x{shifted}" if np.all(scale == 1) else line
    line = f"keras.ops.flip({line}, -1)" if reverse else line
    return f"x = {line}  # {case.where_keras}, or without this scaling, as torch"


def _values(values: Array) -> str:
    """Return one number for all channels, or an array with one for each, as code."""
    is_one = np.ptp(values) <= _SAME * np.max(np.abs(values))
    return repr(float(values[0])) if is_one else f'np.array({values.tolist()}, "float32")'


def _term(sign: str, values: Array, case: Case, axis: int) -> str:
    if np.all(values == (1 if sign == "*" else 0)):
        return ""
    if np.ptp(values) <= _SAME * np.max(np.abs(values)):
        return f" {sign} {float(values[0])!r}"
    view = f".view(-1{', 1' * (case.torch.value.ndim - 2)})" if axis == 1 and case.torch.value.ndim > 2 else ""
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
    Suspect("a factor in Keras", _factor),
    Suspect("pixel preprocessing", _pixels),
)

BRANCHES = (
    Suspect("a factor on a branch", _branch),
    Suspect("a factor on an embedding table", _table),
)
