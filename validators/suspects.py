"""The usual suspects, each a function that predicts what Keras computed if it were the cause."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from math import erf, sqrt
from typing import Any

import numpy as np

from keras3conv.frameworks.layout import channels_first, channels_last
from keras3conv.rule import Rule
from keras3conv.transforms import Array


@dataclass(frozen=True, kw_only=True)
class Case:
    """A pair of layers that differ. All arrays are in Keras' layout, the tensors in torch's."""

    torch_path: str
    keras_path: str
    rule: Rule
    torch_config: Mapping[str, Any]
    keras_config: Mapping[str, Any]
    tensors: Mapping[str, Array]
    torch_input: Array
    keras_input: Array
    torch_output: Array
    keras_output: Array


@dataclass(frozen=True, kw_only=True)
class Suspicion:
    """A cause in words, the line to paste, and what would have been computed."""

    cause: str
    fix: str
    prediction: Array


def of_layer(case: Case) -> Iterator[Suspicion]:
    """Everything that may be wrong with the layer itself."""
    yield from _convolution(case)
    yield from _epsilon(case)
    yield from _swapped_scale(case)
    yield from _kernel(case)
    yield from of_activation(case.torch_output, "torch", f"after {case.torch_path}")


_ACTIVATIONS: Mapping[str, Callable[[Array], Array]] = {
    "relu": lambda x: np.maximum(x, 0.0),
    "relu6": lambda x: np.clip(x, 0.0, 6.0),
    "sigmoid": lambda x: 1.0 / (1.0 + np.exp(-x)),
    "tanh": np.tanh,
    "silu": lambda x: x / (1.0 + np.exp(-x)),
    "gelu": lambda x: 0.5 * x * (1.0 + np.vectorize(erf, otypes=[np.float64])(x / sqrt(2.0))),
    "tanh gelu": lambda x: 0.5 * x * (1.0 + np.tanh(sqrt(2.0 / np.pi) * (x + 0.044715 * x**3))),
    "elu": lambda x: np.where(x > 0, x, np.expm1(np.minimum(x, 0.0))),
    "leaky_relu with slope 0.01": lambda x: np.where(x > 0, x, 0.01 * x),
    "leaky_relu with slope 0.2": lambda x: np.where(x > 0, x, 0.2 * x),
    "leaky_relu with slope 0.3": lambda x: np.where(x > 0, x, 0.3 * x),
    "softplus": lambda x: np.logaddexp(x, 0.0),
    "softmax": lambda x: (
        np.exp(x - x.max(-1, keepdims=True)) / np.exp(x - x.max(-1, keepdims=True)).sum(-1, keepdims=True)
    ),
    "log_softmax": lambda x: (
        x - x.max(-1, keepdims=True) - np.log(np.exp(x - x.max(-1, keepdims=True)).sum(-1, keepdims=True))
    ),
}


def of_activation(values: Array, side: str, where: str) -> Iterator[Suspicion]:
    """An activation that the other side applies, and this one does not."""
    wide = values.astype(np.float64)
    with np.errstate(over="ignore", invalid="ignore"):
        for name, function in _ACTIVATIONS.items():
            yield Suspicion(
                cause=f"{side} lacks an activation {where}: {name} of it is what the other side has",
                fix=f"x = {name.split()[-1] if name == 'tanh gelu' else name.split()[0]}(x)  # {where}",
                prediction=np.asarray(function(wide)),
            )


def of_order(ours: Array, theirs: Array, case: Case) -> Iterator[Suspicion]:
    """The same values in another order: torch flattens (c, h, w), Keras (h, w, c)."""
    if ours.ndim == 2 and np.allclose(np.sort(ours, axis=1), np.sort(theirs, axis=1), rtol=1e-5, atol=0.0):
        yield Suspicion(
            cause="its input has the same values in another order: torch flattens (c, h, w), Keras (h, w, c)",
            fix=f'plan = plan.unpair("{case.torch_path}")  # and align again with inputs, so that Flatten is seen',
            prediction=theirs,
        )


def _convolution(case: Case) -> Iterator[Suspicion]:
    """A padding, a stride or a dilation that the two sides do not share."""
    rank = len(case.tensors["weight"].shape) - 2 if "Conv" in case.rule.torch and "weight" in case.tensors else 0
    if rank < 1 or "Transpose" in case.rule.torch:
        return
    import torch  # here: two files of weights are compared without it
    from torch.nn import functional

    size = case.tensors["weight"].shape[2:]
    stride = _ints(case.keras_config.get("strides", 1), rank)
    dilation = _ints(case.keras_config.get("dilation_rate", 1), rank)
    extent = case.keras_input.shape[1:-1]
    same = case.keras_config.get("padding") == "same"
    pads = [_same_padding(*axis) if same else (0, 0) for axis in zip(extent, size, stride, dilation, strict=True)]
    flat = tuple(side for before_after in reversed(pads) for side in before_after)
    x = torch.from_numpy(np.ascontiguousarray(channels_first(case.keras_input), dtype=np.float64))
    weight = torch.from_numpy(case.tensors["weight"].astype(np.float64))
    bias = torch.from_numpy(case.tensors["bias"].astype(np.float64)) if "bias" in case.tensors else None
    convolve = (functional.conv1d, functional.conv2d, functional.conv3d)[rank - 1]
    groups = case.torch_config.get("groups", 1)
    made = convolve(functional.pad(x, flat), weight, bias, stride=stride, dilation=dilation, groups=groups)
    prediction = channels_last(made.numpy())
    torch_stride, torch_dilation = case.torch_config.get("stride"), case.torch_config.get("dilation")
    if torch_stride is not None and _ints(torch_stride, rank) != stride:
        cause, fix = f"stride is {torch_stride} in torch and {stride} in Keras", f"stride={stride}"
    elif torch_dilation is not None and _ints(torch_dilation, rank) != dilation:
        cause, fix = f"dilation is {torch_dilation} in torch and {dilation} in Keras", f"dilation={dilation}"
    else:
        cause = (
            f"Keras pads {', '.join(map(str, pads))} (before, after) along the axes, torch "
            f'{case.torch_config.get("padding")} on both sides: "same" at stride {stride} puts the odd one at the end'
        )
        fix = f"x = F.pad(x, {flat})  # before {case.torch_path}, with padding=0"
    yield Suspicion(cause=cause, fix=fix, prediction=prediction)


def _same_padding(extent: int, size: int, stride: int, dilation: int) -> tuple[int, int]:
    """What Keras' "same" puts before and after an axis."""
    reach = dilation * (size - 1) + 1
    total = max(0, (-(-extent // stride) - 1) * stride + reach - extent)
    return total // 2, total - total // 2


def _epsilon(case: Case) -> Iterator[Suspicion]:
    """The epsilon of the other side, or of the other framework's default."""
    if not {"running_mean", "running_var"} <= case.tensors.keys():
        return
    ours, theirs = case.torch_config.get("eps"), case.keras_config.get("epsilon")
    for epsilon in dict.fromkeys((theirs, 1e-3, 1e-5)):
        if epsilon is not None and epsilon != ours:
            yield Suspicion(
                cause=f"epsilon is {ours:g} in torch and {epsilon:g} in Keras",
                fix=f"{case.rule.torch.removeprefix('torch.')}({len(case.tensors['running_var'])}, eps={epsilon:g})",
                prediction=_normalized(case, epsilon, case.tensors.get("weight"), case.tensors.get("bias")),
            )


def _swapped_scale(case: Case) -> Iterator[Suspicion]:
    """Gamma where beta belongs, or the mean where the variance belongs."""
    if {"running_mean", "running_var", "weight", "bias"} <= case.tensors.keys():
        yield Suspicion(
            cause="gamma and beta are swapped",
            fix="plan = k3c.align(torch, keras)  # the plan in use pairs weight with beta",
            prediction=_normalized(
                case, case.torch_config.get("eps", 1e-5), case.tensors["bias"], case.tensors["weight"]
            ),
        )


def _normalized(case: Case, epsilon: float, scale: Array | None, offset: Array | None) -> Array:
    x = case.keras_input.astype(np.float64)
    mean, variance = case.tensors["running_mean"], case.tensors["running_var"]
    result = (x - mean) / np.sqrt(variance + epsilon)
    result = result if scale is None else result * scale
    return np.asarray(result if offset is None else result + offset)


def _kernel(case: Case) -> Iterator[Suspicion]:
    """A square matrix that was not transposed, a bias that is missing."""
    weight, bias = case.tensors.get("weight"), case.tensors.get("bias", 0.0)
    if case.rule.torch != "torch.nn.Linear" or weight is None:
        return
    if weight.shape[0] == weight.shape[1]:
        yield Suspicion(
            cause="the kernel is transposed: torch has (out, in), Keras (in, out)",
            fix=f'plan.pair("{case.torch_path}", "{case.keras_path}")',
            prediction=case.keras_input @ weight + bias,
        )
    yield Suspicion(
        cause="Keras adds no bias",
        fix=f"nn.Linear({weight.shape[1]}, {weight.shape[0]}, bias=False)  # {case.torch_path}",
        prediction=case.keras_input @ weight.T,
    )


def _ints(value: Any, rank: int) -> tuple[int, ...]:
    return (int(value),) * rank if isinstance(value, int) else tuple(int(number) for number in value)
