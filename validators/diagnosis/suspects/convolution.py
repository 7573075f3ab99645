"""Propose mistakes in convolutions as causes: another padding, stride or dilation; a flipped kernel."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from typing import Any

import torch
from torch.nn import functional

from keras3conv.frameworks.torch.calls import Change, Key, Operation, TorchCall
from keras3conv.rules.helpers.padding import Pads, same_padding
from keras3conv.validators.diagnosis.suspects.base import (
    Case,
    Hypothesis,
    Suspect,
    flat,
    ints,
    replaced_by,
    with_arguments,
)
from keras3conv.validators.diagnosis.suspects.in_keras import code_in_keras, cropped, in_keras
from keras3conv.validators.diagnosis.suspects.zero_padding import (
    lines_in_keras,
    lines_in_torch,
    own_pads,
    pad_before,
    pads_of,
    together,
)

_CONVOLUTIONS = ("conv1d", "conv2d", "conv3d")
_TRANSPOSED = ("conv_transpose1d", "conv_transpose2d", "conv_transpose3d")


@dataclass(frozen=True, kw_only=True)
class _Geometry:
    """A convolution of torch with the zeros that are added before it, and what it computes with.

    Attributes:
        operation: The convolution.
        before: The `pad` right before it, whose padding `pads` includes; None if there is none.
        stride: Its stride along each axis.
        dilation: Its dilation along each axis.
        pads: The padding before and after each axis.
    """

    operation: Operation
    before: Operation | None
    stride: tuple[int, ...]
    dilation: tuple[int, ...]
    pads: Pads

    @property
    def kernel(self) -> tuple[int, ...]:
        """The size of the kernel along each axis."""
        return tuple(self.operation.get("weight")[2:])

    @property
    def extent(self) -> tuple[int, ...]:
        """The size of the images, or the number of steps, before any padding."""
        before = pads_of(self.before, len(self.kernel))
        sizes = zip(self.operation.get("input")[2:], before, strict=True)
        return tuple(size - sum(sides) for size, sides in sizes)


def _geometry(case: Case) -> Iterator[Hypothesis]:
    for operation in case.operations_named(*_CONVOLUTIONS):
        now = _geometry_of(case, operation)
        strides = dict.fromkeys((now.stride, _keras_ints(case, "strides", now.stride)))
        dilations = dict.fromkeys((now.dilation, _keras_ints(case, "dilation_rate", now.dilation)))
        for stride, dilation in product(strides, dilations):
            other = replace(now, stride=stride, dilation=dilation)
            for pads in _paddings(case, other):
                if replace(other, pads=pads) != now:
                    yield _other_geometry(case, now, replace(other, pads=pads))


def _geometry_of(case: Case, operation: Operation) -> _Geometry:
    rank, kernel = len(operation.get("weight")) - 2, operation.get("weight")[2:]
    stride, dilation = (ints(operation.get(name, 1), rank) for name in ("stride", "dilation"))
    before = pad_before(case, operation)
    pads = together(pads_of(before, rank), _torch_pads(operation, kernel, dilation))
    return _Geometry(operation=operation, before=before, stride=stride, dilation=dilation, pads=pads)


def _keras_ints(case: Case, key: str, default: tuple[int, ...]) -> tuple[int, ...]:
    return ints(case.keras.config[key], len(default)) if case.point.in_layer and key in case.keras.config else default


def _torch_pads(operation: Operation, size: tuple[int, ...], dilation: tuple[int, ...]) -> Pads:
    own = own_pads(operation, len(size))
    if own is not None:
        return own
    if operation.get("padding") == "valid":
        return ((0, 0),) * len(size)
    return tuple(same_padding(None, window, 1, gap) for window, gap in zip(size, dilation, strict=True))


def _paddings(case: Case, geometry: _Geometry) -> list[Pads]:
    """Return the paddings to try in a convolution: torch's, that of Keras, "same" also with its ends swapped, none."""
    none = ((0, 0),) * len(geometry.kernel)
    same = _same(geometry)
    swapped = tuple((after, before) for before, after in same)
    tried = [geometry.pads, same, swapped, none]
    before = case.keras.zero_paddings.get(case.keras_path_of(geometry.operation))
    if before is not None and len(before.pads) == len(none):
        tried.insert(1, together(before.pads, same if _pads_itself(case, geometry.operation) else none))
    return list(dict.fromkeys(tried))


def _same(geometry: _Geometry) -> Pads:
    axes = zip(geometry.extent, geometry.kernel, geometry.stride, geometry.dilation, strict=True)
    return tuple(same_padding(*axis) for axis in axes)


def _other_geometry(case: Case, now: _Geometry, other: _Geometry) -> Hypothesis:
    """Return the hypothesis that Keras convolves with another geometry.

    Args:
        case: The point at which the models differ.
        now: The geometry of torch.
        other: The geometry that is tried.
    """
    operation, pads = now.operation, other.pads

    def run(call: TorchCall) -> Any:
        padded = functional.pad(call.get("input"), flat(pads))
        return call.run(input=padded, padding=0, stride=other.stride, dilation=other.dilation)

    if now.stride != other.stride:
        cause = f"stride is {operation.get('stride', 1)} in torch and {other.stride} in Keras"
        fix, keras = f"stride={other.stride}", f"strides={now.stride}  # {case.keras_path_of(operation)}"
    elif now.dilation != other.dilation:
        cause = f"dilation is {operation.get('dilation', 1)} in torch and {other.dilation} in Keras"
        fix, keras = f"dilation={other.dilation}", f"dilation_rate={now.dilation}  # {case.keras_path_of(operation)}"
    else:
        cause = f"Keras pads {_listed(pads)} (before, after) along the axes, torch {_in_words(now)}"
        cause += _why_uneven(case, operation, pads, other.stride)
        is_same = _pads_itself(case, operation) and any(map(any, pads))
        fix = lines_in_torch(case, operation, pads, other.stride if is_same else (1,))
        is_fixed = max(now.stride) == 1
        keras = lines_in_keras(case, operation, now.pads, _same(now) if is_fixed else ((0, 0),) * len(pads))
    changes: dict[Key, Change] = {operation.key: run}
    if now.before is not None:
        changes[now.before.key] = _unpadded
    return Hypothesis(cause=cause, fix=fix, keras=keras, changes=changes)


def _unpadded(call: TorchCall) -> Any:
    return call.get("input")


def _listed(pads: Pads) -> str:
    return ", ".join(map(str, pads))


def _in_words(geometry: _Geometry) -> str:
    """Return the padding of torch: that of the convolution, or that of both operations together."""
    own = geometry.operation.get("padding", 0)
    return f"{own} on both sides" if geometry.before is None else _listed(geometry.pads)


def _why_uneven(case: Case, operation: Operation, pads: Pads, stride: tuple[int, ...]) -> str:
    """Return the reason for uneven padding as the end of a sentence; empty if the Keras layer does not pad."""
    is_even = all(before == after for before, after in pads)
    return f': at stride {stride} "same" pads more at the end' if _pads_itself(case, operation) and not is_even else ""


def _pads_itself(case: Case, operation: Operation) -> bool:
    return bool(case.keras_config_of(operation).get("padding", "same") == "same")


def _kernel(case: Case) -> Iterator[Hypothesis]:
    for operation in case.operations_named(*_CONVOLUTIONS, *_TRANSPOSED):
        shape = operation.get("weight")
        axes = list(range(2, len(shape)))
        yield _turned(case, operation, "the kernel is flipped along its spatial axes", partial(torch.flip, dims=axes))
        if len(axes) > 1 and len(set(shape[2:])) == 1:
            cause = "the kernel's spatial axes are transposed: height and width"
            yield _turned(case, operation, cause, lambda w: w.transpose(2, 3))
        if shape[0] == shape[1]:
            cause = "the kernel's channels are transposed: input and output channels"
            yield _turned(case, operation, cause, lambda w: w.transpose(0, 1))
        inputs = operation.get("input")[1]
        if operation.get("groups", 1) == inputs > 1 and shape[0] > inputs:
            cause = "the kernels of a depthwise convolution are in another order: by multiplier, not by channel"
            yield _turned(case, operation, cause, partial(_regrouped, number=inputs))
        elif operation.get("groups", 1) > 1:
            groups = operation.get("groups")
            cause = "the groups of the kernel are in another order"
            yield _turned(case, operation, cause, partial(_regrouped, number=groups))


def _regrouped(weight: Any, number: int) -> Any:
    return weight.unflatten(0, (-1, number)).transpose(0, 1).flatten(0, 1)


def _turned(case: Case, operation: Operation, cause: str, turn: Callable[[Any], Any]) -> Hypothesis:
    return Hypothesis(
        cause=cause,
        fix=case.pair_again(),
        changes={operation.key: lambda call: call.run(weight=turn(call.get("weight")))},
    )


def _crop(case: Case) -> Iterator[Hypothesis]:
    """Yield hypotheses that the two sides crop the result of a transposed convolution differently."""
    for operation in case.operations_named(*_TRANSPOSED):
        rank = len(operation.get("weight")) - 2
        torch_padding = ints(operation.get("padding", 0), rank)
        for start in range(max(operation.get("weight")[2:])):
            kept = ", ".join(f"{start}:{start + size}" for size in (operation.result or ())[-rank:])
            if any(start != padding for padding in torch_padding):
                yield Hypothesis(
                    cause=f"Keras crops {start} at the start of every axis of the transposed convolution, torch "
                    f"{torch_padding}",
                    fix=f"padding=0  # {case.place(operation)}\nx = x[..., {kept}]  # after {case.place(operation)}",
                    keras=cropped(case, operation),
                    changes={operation.key: replaced_by(_cropped, start)},
                )


def _cropped(call: TorchCall, start: int) -> Any:
    sizes = call.run().shape[2:]
    output = call.run(padding=0)
    for axis, size in enumerate(sizes, 2):
        missing = max(0, start + size - output.shape[axis])
        pads = [0] * (2 * (output.ndim - axis) - 1) + [missing]
        output = functional.pad(output, pads).narrow(axis, start, size)
    return output


def _border(case: Case) -> Iterator[Hypothesis]:
    """Yield hypotheses that a separate padding operation of Keras has a different mode, or swaps start and end."""
    for operation in case.operations_named("pad"):
        mode, pads = operation.get("mode", "constant"), list(operation.get("pad", ()))
        swapped = [pads[index ^ 1] for index in range(len(pads))]
        if swapped != pads:
            yield Hypothesis(
                cause=f"torch pads {tuple(pads)} (before and after, the last axis first), Keras {tuple(swapped)}",
                fix=f"x = F.pad(x, {tuple(swapped)})  # {case.place(operation)}",
                keras=in_keras(case, operation, "the padding"),
                changes={operation.key: with_arguments(pad=swapped)},
            )
        for other in ("constant", "reflect", "replicate", "circular"):
            if other != mode:
                yield Hypothesis(
                    cause=f"torch pads the border with mode {mode}, Keras with {other}",
                    fix=f'padding_mode="{"zeros" if other == "constant" else other}"  # {case.place(operation)}',
                    keras=_border_in_keras(case, operation),
                    changes={operation.key: with_arguments(mode=other, value=None)},
                )


def _border_in_keras(case: Case, operation: Operation) -> str:
    """Return the lines that pad in Keras as a `pad` of torch does, and let the convolution after it pad no more."""
    code = code_in_keras(case, operation)
    later = (one for one in case.operations_named(*_CONVOLUTIONS) if one.place > operation.place)
    padding = next((one for one in later if one.get("input") == operation.result), operation)
    config, where = case.keras_config_of(padding), case.keras_path_of(padding)
    if not code or "kernel_size" not in config or config.get("padding") != "same":
        return in_keras(case, operation, "the padding")
    return f'x = {code}  # before {where}\npadding="valid"  # {where}'


SUSPECTS = (
    Suspect("padding, stride or dilation", _geometry),
    Suspect("kernel flipped, transposed or in another order", _kernel),
    Suspect("crop of a transposed convolution", _crop),
    Suspect("another padding mode", _border),
)
