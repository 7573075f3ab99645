"""Propose mistakes in convolutions as causes: another padding, stride or dilation; a flipped kernel."""

from collections.abc import Callable, Iterator
from functools import partial
from itertools import product
from typing import Any

import torch
from torch.nn import functional

from keras3conv.frameworks.torch.replay import Operation, TorchCall
from keras3conv.rules.helpers.padding import Pads, same_padding
from keras3conv.validators.diagnosis.suspects.base import (
    Case,
    Hypothesis,
    Suspect,
    flat,
    ints,
    only_at_this_size,
    replaced_by,
    with_arguments,
)
from keras3conv.validators.diagnosis.suspects.in_keras import cropped, in_keras, padded

_CONVOLUTIONS = ("conv1d", "conv2d", "conv3d")
_TRANSPOSED = ("conv_transpose1d", "conv_transpose2d", "conv_transpose3d")


def _geometry(case: Case) -> Iterator[Hypothesis]:
    for operation in case.operations_named(*_CONVOLUTIONS):
        rank, size = len(operation.get("weight")) - 2, operation.get("weight")[2:]
        torch_stride, torch_dilation = (ints(operation.get(name, 1), rank) for name in ("stride", "dilation"))
        torch_geometry = torch_stride, torch_dilation, _torch_pads(operation, size, torch_dilation)
        strides = dict.fromkeys((torch_stride, _keras_ints(case, "strides", torch_stride)))
        dilations = dict.fromkeys((torch_dilation, _keras_ints(case, "dilation_rate", torch_dilation)))
        for stride, dilation in product(strides, dilations):
            for pads in _paddings(operation, size, stride, dilation):
                if (stride, dilation, pads) != torch_geometry:
                    yield _other_geometry(case, operation, pads, stride, dilation)


def _keras_ints(case: Case, key: str, default: tuple[int, ...]) -> tuple[int, ...]:
    return ints(case.keras.config[key], len(default)) if case.point.in_layer and key in case.keras.config else default


def _torch_pads(operation: Operation, size: tuple[int, ...], dilation: tuple[int, ...]) -> Pads:
    padding = operation.get("padding", 0)
    if isinstance(padding, str):
        if padding == "valid":
            return ((0, 0),) * len(size)
        return tuple(same_padding(None, window, 1, gap) for window, gap in zip(size, dilation, strict=True))
    return tuple((side, side) for side in ints(padding, len(size)))


def _paddings(
    operation: Operation, size: tuple[int, ...], stride: tuple[int, ...], dilation: tuple[int, ...]
) -> list[Pads]:
    """Return the paddings to try in a convolution: torch's, "same", "same" with start and end swapped, and none."""
    extent = operation.get("input")[2:]
    same = tuple(same_padding(*axis) for axis in zip(extent, size, stride, dilation, strict=True))
    none = ((0, 0),) * len(size)
    swapped = tuple((after, before) for before, after in same)
    return list(dict.fromkeys((_torch_pads(operation, size, dilation), same, swapped, none)))


def _other_geometry(
    case: Case, operation: Operation, pads: Pads, stride: tuple[int, ...], dilation: tuple[int, ...]
) -> Hypothesis:
    rank = len(pads)

    def run(call: TorchCall) -> Any:
        padded = functional.pad(call.get("input"), flat(pads))
        return call.run(input=padded, padding=0, stride=stride, dilation=dilation)

    if stride != ints(operation.get("stride", 1), rank):
        cause, fix = f"stride is {operation.get('stride', 1)} in torch and {stride} in Keras", f"stride={stride}"
        keras = f"strides={ints(operation.get('stride', 1), rank)}  # {case.point.keras_path}"
    elif dilation != ints(operation.get("dilation", 1), rank):
        cause, fix = (
            f"dilation is {operation.get('dilation', 1)} in torch and {dilation} in Keras",
            f"dilation={dilation}",
        )
        keras = f"dilation_rate={ints(operation.get('dilation', 1), rank)}  # {case.point.keras_path}"
    else:
        cause = (
            f"Keras pads {', '.join(map(str, pads))} (before, after) along the axes, torch "
            f"{operation.get('padding', 0)} on both sides{_why_uneven(case, pads, stride)}"
        )
        only = only_at_this_size(operation, stride) if _pads_itself(case) else ""
        fix = f"x = F.pad(x, {flat(pads)})  # {case.before(operation)}, with padding=0{only}"
        torch_pads = _torch_pads(operation, operation.get("weight")[2:], dilation)
        keras = _padded_in_keras(case, torch_pads)
    return Hypothesis(cause=cause, fix=fix, keras=keras, changes={operation.key: run})


def _why_uneven(case: Case, pads: Pads, stride: tuple[int, ...]) -> str:
    """Return the reason for uneven padding as the end of a sentence; empty if the Keras layer does not pad."""
    is_even = all(before == after for before, after in pads)
    return f': at stride {stride} "same" pads more at the end' if _pads_itself(case) and not is_even else ""


def _pads_itself(case: Case) -> bool:
    return bool(case.keras.config.get("padding", "same") == "same")


def _padded_in_keras(case: Case, pads: Pads) -> str:
    """Return the line for Keras that pads a convolution as torch does."""
    where = case.point.keras_path
    pads_itself = _pads_itself(case)
    if not any(map(any, pads)):
        return f'padding="valid"  # {where}{"" if pads_itself else ", and no padding before it"}'
    line = f"x = {padded(pads)}  # before {where}"
    return f'{line}, with padding="valid"{"" if pads_itself else ", in place of other padding there"}'


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
                    fix=f"padding=0  # {case.place(operation)}, then x = x[..., {kept}]",
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
                    keras=in_keras(case, operation, "the padding"),
                    changes={operation.key: with_arguments(mode=other, value=None)},
                )


SUSPECTS = (
    Suspect("padding, stride or dilation", _geometry),
    Suspect("kernel flipped, transposed or in another order", _kernel),
    Suspect("crop of a transposed convolution", _crop),
    Suspect("another padding mode", _border),
)
