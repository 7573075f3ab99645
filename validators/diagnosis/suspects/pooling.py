"""Pooling and resizing: what the border counts for, and where the samples lie."""

from collections.abc import Iterator
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

_MAXIMA = ("max_pool1d", "max_pool2d", "max_pool3d")
_MEANS = ("avg_pool1d", "avg_pool2d", "avg_pool3d")

Pads = tuple[tuple[int, int], ...]


def _border_of_maxima(case: Case) -> Iterator[Suspicion]:
    for operation in case.named(*_MAXIMA):
        own = tuple((side, side) for side in ints(operation.get("padding", 0), _rank(operation)))
        same = _same(operation)
        for pads in dict.fromkeys((own, same)):
            if any(map(any, pads)):
                yield Suspicion(
                    cause=f"Keras pads with 0 before a max pooling, torch with the smallest number: {_told(pads)}",
                    fix=f"x = F.pad(x, {flat(pads)})  # before {operation.owner or case.where}, with padding=0",
                    changes={operation.key: doing(_padded, pads, 0.0)},
                )
        if same != own:
            yield Suspicion(
                cause=f'Keras pads a max pooling {_told(same)}: "same" puts the odd one at the end; torch {_told(own)}',
                fix=f'x = F.pad(x, {flat(same)}, value=-float("inf"))  # before {operation.owner}, with padding=0',
                changes={operation.key: doing(_padded, same, -float("inf"))},
            )


def _border_of_means(case: Case) -> Iterator[Suspicion]:
    for operation in case.named(*_MEANS):
        counts = operation.get("count_include_pad", True)
        yield Suspicion(
            cause=f"the border counts in torch's average pooling: {counts}; in Keras' {not counts}",
            fix=f"count_include_pad={not counts}  # {operation.owner or case.where}",
            changes={operation.key: running(count_include_pad=not counts)},
        )
        same = _same(operation)
        yield Suspicion(
            cause=f'Keras pads an average pooling {_told(same)}, as "same" does, and leaves the border out',
            fix=f"AvgPool(padding=0, ceil_mode=True)  # {operation.owner or case.where}",
            changes={operation.key: doing(_mean_without_border, same)},
        )


def _ceil_mode(case: Case) -> Iterator[Suspicion]:
    for operation in case.named(*_MAXIMA, *_MEANS):
        ours = operation.get("ceil_mode", False)
        yield Suspicion(
            cause=f"ceil_mode is {ours} in torch, and Keras' windows are those of {not ours}",
            fix=f"ceil_mode={not ours}  # {operation.owner or case.where}",
            changes={operation.key: running(ceil_mode=not ours)},
        )


def _other_kind(case: Case) -> Iterator[Suspicion]:
    for operation in case.named(*_MAXIMA, *_MEANS, "adaptive_avg_pool2d", "adaptive_max_pool2d"):
        ours, other = ("max", "avg") if "max" in operation.name else ("avg", "max")
        function = getattr(functional, operation.name.replace(ours, other))
        shared = () if "adaptive" in operation.name else ("stride", "padding", "ceil_mode")
        size = "output_size" if "adaptive" in operation.name else "kernel_size"

        def run(call: TorchCall, function: Any = function, shared: Any = shared, size: str = size) -> Any:
            given = {name: call.get(name) for name in shared if call.get(name) is not None}
            window = call.args[1] if len(call.args) > 1 else call.kwargs[size]
            return function(call.get("input"), window, **given)

        yield Suspicion(
            cause=f"torch pools by {'the maximum' if ours == 'max' else 'the mean'}, Keras by the other",
            fix=f"F.{operation.name.replace(ours, other)}  # {operation.owner or case.where}",
            changes={operation.key: run},
        )


def _resize(case: Case) -> Iterator[Suspicion]:
    for operation in case.named("interpolate"):
        mode, aligned = operation.get("mode", "nearest"), bool(operation.get("align_corners"))
        smooth = mode in ("linear", "bilinear", "bicubic", "trilinear")
        rank = len(operation.get("input")) - 2
        others = {1: ("linear",), 2: ("bilinear", "bicubic"), 3: ("trilinear",)}.get(rank, ())
        wanted = [(mode, not aligned)] if smooth else []
        wanted += [(other, False) for other in ("nearest", "nearest-exact", *others) if other != mode]
        wanted += [(other, True) for other in others if other != mode]
        for other, corners in wanted:
            yield Suspicion(
                cause=f"torch resizes with {_mode(mode, aligned)}, Keras with {_mode(other, corners)}",
                fix=f"F.interpolate(x, ..., {_arguments(other, corners)})  # {operation.owner or case.where}",
                changes={operation.key: doing(_resized, other, corners)},
            )


def _resized(call: TorchCall, mode: str, corners: bool) -> Any:
    return call.run(mode=mode, align_corners=corners if not mode.startswith("nearest") else None)


def _mode(mode: str, corners: bool) -> str:
    if mode.startswith("nearest"):
        return {"nearest": "nearest, rounded down,", "nearest-exact": "nearest, from the middle of the pixel,"}[mode]
    return f"{mode}, align_corners={corners}"


def _arguments(mode: str, corners: bool) -> str:
    return f'mode="{mode}"' + ("" if mode.startswith("nearest") else f", align_corners={corners}")


def _rank(operation: Operation) -> int:
    return int(operation.name[-2])


def _window(call: TorchCall | Operation) -> tuple[Any, Any]:
    size = call.get("kernel_size")
    stride = call.get("stride")
    return size, size if stride in (None, []) else stride


def _same(operation: Operation) -> Pads:
    rank = _rank(operation)
    size, stride = (ints(value, rank) for value in _window(operation))
    extent = operation.get("input")[-rank:]
    return tuple(same_padding(*axis, 1) for axis in zip(extent, size, stride, strict=True))


def _padded(call: TorchCall, pads: Pads, value: float) -> Any:
    return call.run(input=functional.pad(call.get("input"), flat(pads), value=value), padding=0)


def _mean_without_border(call: TorchCall, pads: Pads) -> Any:
    values = call.get("input")
    ones = torch.ones_like(values)
    sums, counts = (call.run(input=functional.pad(x, flat(pads)), padding=0) for x in (values, ones))
    return sums / counts


def _told(pads: Pads) -> str:
    return ", ".join(map(str, pads))


SUSPECTS = (
    Suspect("border of a max pooling", _border_of_maxima),
    Suspect("border of an average pooling", _border_of_means),
    Suspect("ceil mode", _ceil_mode),
    Suspect("maximum for mean", _other_kind),
    Suspect("resizing", _resize),
)
