"""Convolutions: a border, a stride or a dilation that the two sides do not share; a kernel that is turned."""

from collections.abc import Callable, Iterator
from functools import partial
from itertools import product
from typing import Any

import torch
from torch.nn import functional

from keras3conv.frameworks.torch.replay import Operation, TorchCall
from keras3conv.validators.diagnosis.suspects.base import (
    Case,
    Suspect,
    Suspicion,
    doing,
    flat,
    ints,
    running,
    same_padding,
)

_CONVOLUTIONS = ("conv1d", "conv2d", "conv3d")
_TRANSPOSED = ("conv_transpose1d", "conv_transpose2d", "conv_transpose3d")

Pads = tuple[tuple[int, int], ...]


def _geometry(case: Case) -> Iterator[Suspicion]:
    for operation in case.named(*_CONVOLUTIONS):
        rank, size = len(operation.get("weight")) - 2, operation.get("weight")[2:]
        ours = ints(operation.get("stride", 1), rank), ints(operation.get("dilation", 1), rank)
        strides = dict.fromkeys((ours[0], _of_keras(case, "strides", rank, ours[0])))
        dilations = dict.fromkeys((ours[1], _of_keras(case, "dilation_rate", rank, ours[1])))
        for stride, dilation in product(strides, dilations):
            for pads in _paddings(operation, size, stride, dilation):
                if (stride, dilation, pads) != (*ours, _own_pads(operation, size, ours[1])):
                    yield _otherwise(case, operation, pads, stride, dilation)


def _of_keras(case: Case, key: str, rank: int, ours: tuple[int, ...]) -> tuple[int, ...]:
    return ints(case.keras_config[key], rank) if case.inside and key in case.keras_config else ours


def _own_pads(operation: Operation, size: tuple[int, ...], dilation: tuple[int, ...]) -> Pads:
    padding = operation.get("padding", 0)
    if isinstance(padding, str):
        totals = [0 if padding == "valid" else d * (k - 1) for k, d in zip(size, dilation, strict=True)]
        return tuple((total // 2, total - total // 2) for total in totals)
    return tuple((side, side) for side in ints(padding, len(size)))


def _paddings(
    operation: Operation, size: tuple[int, ...], stride: tuple[int, ...], dilation: tuple[int, ...]
) -> list[Pads]:
    """Torch's own, Keras' "same", the same with the odd one in front, and none."""
    extent = operation.get("input")[2:]
    same = tuple(same_padding(*axis) for axis in zip(extent, size, stride, dilation, strict=True))
    none = ((0, 0),) * len(size)
    turned = tuple((after, before) for before, after in same)
    return list(dict.fromkeys((_own_pads(operation, size, dilation), same, turned, none)))


def _otherwise(
    case: Case, operation: Operation, pads: Pads, stride: tuple[int, ...], dilation: tuple[int, ...]
) -> Suspicion:
    rank = len(pads)

    def run(call: TorchCall) -> Any:
        padded = functional.pad(call.get("input"), flat(pads))
        return call.run(input=padded, padding=0, stride=stride, dilation=dilation)

    if stride != ints(operation.get("stride", 1), rank):
        cause, fix = f"stride is {operation.get('stride', 1)} in torch and {stride} in Keras", f"stride={stride}"
    elif dilation != ints(operation.get("dilation", 1), rank):
        cause, fix = (
            f"dilation is {operation.get('dilation', 1)} in torch and {dilation} in Keras",
            f"dilation={dilation}",
        )
    else:
        cause = (
            f"Keras pads {', '.join(map(str, pads))} (before, after) along the axes, torch "
            f'{operation.get("padding", 0)} on both sides: "same" at stride {stride} puts the odd one at the end'
        )
        fix = f"x = F.pad(x, {flat(pads)})  # before {operation.owner}, with padding=0"
    return Suspicion(cause=cause, fix=fix, changes={operation.key: run})


def _kernel(case: Case) -> Iterator[Suspicion]:
    for operation in case.named(*_CONVOLUTIONS, *_TRANSPOSED):
        shape = operation.get("weight")
        axes = list(range(2, len(shape)))
        yield _turned(case, operation, "the kernel is flipped along its spatial axes", partial(torch.flip, dims=axes))
        if len(axes) > 1 and len(set(shape[2:])) == 1:
            cause = "the kernel's spatial axes are transposed: height and width"
            yield _turned(case, operation, cause, lambda w: w.transpose(2, 3))
        if shape[0] == shape[1]:
            cause = "the kernel's channels are transposed: what goes in and what comes out"
            yield _turned(case, operation, cause, lambda w: w.transpose(0, 1))
        inputs = operation.get("input")[1]
        if operation.get("groups", 1) == inputs > 1 and shape[0] > inputs:
            cause = (
                "the kernels of a depthwise convolution are in another order: channel by channel or multiplier by it"
            )
            yield _turned(case, operation, cause, partial(_multiplier_first, number=inputs))
        elif operation.get("groups", 1) > 1:
            groups = operation.get("groups")
            cause = "the groups of the kernel are in another order"
            yield _turned(case, operation, cause, partial(_multiplier_first, number=groups))


def _multiplier_first(weight: Any, number: int) -> Any:
    return weight.unflatten(0, (-1, number)).transpose(0, 1).flatten(0, 1)


def _turned(case: Case, operation: Operation, cause: str, turn: Callable[[Any], Any]) -> Suspicion:
    return Suspicion(
        cause=cause,
        fix=f'plan = plan.pair("{case.torch_path}", "{case.keras_path}")',
        changes={operation.key: lambda call: call.run(weight=turn(call.get("weight")))},
    )


def _crop(case: Case) -> Iterator[Suspicion]:
    """A transposed convolution, of which the two sides keep another part."""
    for operation in case.named(*_TRANSPOSED):
        rank = len(operation.get("weight")) - 2
        ours = ints(operation.get("padding", 0), rank)
        for start in range(max(operation.get("weight")[2:])):
            if any(start != own for own in ours):
                yield Suspicion(
                    cause=f"Keras crops {start} at the start of every axis of the transposed convolution, torch {ours}",
                    fix=f"padding=0  # {operation.owner}, then x[..., {start}:{start} + size]",
                    changes={operation.key: doing(_cropped, start)},
                )


def _cropped(call: TorchCall, start: int) -> Any:
    wanted = call.run().shape[2:]
    whole = call.run(padding=0)
    for axis, size in enumerate(wanted, 2):
        missing = max(0, start + size - whole.shape[axis])
        pads = [0] * (2 * (whole.ndim - axis) - 1) + [missing]
        whole = functional.pad(whole, pads).narrow(axis, start, size)
    return whole


def _border(case: Case) -> Iterator[Suspicion]:
    """A padding of its own: of another kind, or with the odd one on the other side."""
    for operation in case.named("pad"):
        mode, pads = operation.get("mode", "constant"), list(operation.get("pad", ()))
        turned = [pads[place ^ 1] for place in range(len(pads))]
        if turned != pads:
            yield Suspicion(
                cause=f"torch pads {tuple(pads)} (before and after, the last axis first), Keras {tuple(turned)}",
                fix=f"x = F.pad(x, {tuple(turned)})  # {operation.owner or case.where}",
                changes={operation.key: running(pad=turned)},
            )
        for other in ("constant", "reflect", "replicate", "circular"):
            if other != mode:
                yield Suspicion(
                    cause=f"torch pads the border with mode {mode}, Keras with {other}",
                    fix=f'padding_mode="{"zeros" if other == "constant" else other}"  # {operation.owner}',
                    changes={operation.key: running(mode=other, value=None)},
                )


SUSPECTS = (
    Suspect("padding, stride or dilation", _geometry),
    Suspect("kernel flipped, transposed or in another order", _kernel),
    Suspect("crop of a transposed convolution", _crop),
    Suspect("another border", _border),
)
