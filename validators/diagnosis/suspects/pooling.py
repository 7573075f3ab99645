"""Propose mistakes in pooling and resizing as causes: padding value, border in a mean, sampling positions."""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch.nn import functional

from keras3conv.frameworks.torch.calls import Operation, TorchCall
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
from keras3conv.validators.diagnosis.suspects.in_keras import in_keras
from keras3conv.validators.diagnosis.suspects.zero_padding import lines_in_torch, own_pads

_LEAST = 'value=-float("inf")'
"""The value around a max pooling, as an argument of torch's `pad`."""

_MAX_POOLING = ("max_pool1d", "max_pool2d", "max_pool3d")
_AVERAGE_POOLING = ("avg_pool1d", "avg_pool2d", "avg_pool3d")


def _max_pooling_padding(case: Case) -> Iterator[Hypothesis]:
    for operation in case.operations_named(*_MAX_POOLING):
        torch_pads = tuple((side, side) for side in ints(operation.get("padding", 0), _rank(operation)))
        same = _same(operation)
        # Another padding comes first: after a ReLU, zeros around an image have no other maxima than -inf has.
        if same != torch_pads:
            keras_words, torch_words = _listed(same), _listed(torch_pads)
            yield Hypothesis(
                cause=f'Keras pads a max pooling by {keras_words}, "same" pads more at the end; torch {torch_words}',
                fix=lines_in_torch(case, operation, same, ints(_window(operation)[1], _rank(operation)), _LEAST),
                keras=_padded_in_keras(case, operation),
                changes={operation.key: replaced_by(_padded, same, -float("inf"))},
            )
        for pads in dict.fromkeys((torch_pads, same)):
            if any(map(any, pads)):
                yield Hypothesis(
                    cause=f"Keras pads a max pooling with 0, torch with -inf: {_listed(pads)}",
                    fix="\n".join(
                        [f"x = F.pad(x, {flat(pads)})  # {case.before(operation)}", *_unpadded(case, operation)]
                    ),
                    keras=_padded_in_keras(case, operation),
                    changes={operation.key: replaced_by(_padded, pads, 0.0)},
                )


def _padded_in_keras(case: Case, operation: Operation) -> str:
    """Return the line of code that pads in Keras as torch pads, before a pooling with padding="valid"."""
    rank = _rank(operation)
    pads = [(side, side) for side in ints(operation.get("padding", 0), rank)]
    line = f'x = keras.ops.pad(x, {[(0, 0), *pads, (0, 0)]}, constant_values=-float("inf"))'
    named = list(_padding_poolings(case, operation))
    name, padding = named[0] if len(named) == 1 else ("the pooling", "same")
    place = f"before {name}" if len(named) == 1 else f"{case.where_keras}: before {name}"
    if padding != "same":
        return f"{line}  # in place of {case.keras.zero_paddings[name].path}"
    return f'{line}  # {place}\npadding="valid"  # {name}'


def _padding_poolings(case: Case, operation: Operation) -> Iterator[tuple[str, str]]:
    """Yield the name and the padding of the Keras poolings with the window of a torch pooling that are padded."""
    rank = _rank(operation)
    window = ints(operation.get("kernel_size"), rank)
    for config in case.keras.configs:
        size, name, padding = config.get("pool_size"), str(config.get("name")), config.get("padding")
        is_padded = padding == "same" or name in case.keras.zero_paddings
        if size is not None and is_padded and ints(size, rank) == window:
            yield name, str(padding)


def _unpadded(case: Case, operation: Operation) -> list[str]:
    """Return the line that gives a pooling of torch no padding of its own; none if it has none."""
    own = own_pads(operation, _rank(operation))
    return [f"padding=0  # {case.place(operation)}"] if own is None or any(map(any, own)) else []


def _average_pooling_padding(case: Case) -> Iterator[Hypothesis]:
    for operation in case.operations_named(*_AVERAGE_POOLING):
        counts = operation.get("count_include_pad", True)
        yield Hypothesis(
            cause=f"average pooling counts the padding in torch: {counts}; in Keras: {not counts}",
            fix=f"count_include_pad={not counts}  # {case.place(operation)}",
            keras=in_keras(case, operation, "the pooling"),
            changes={operation.key: with_arguments(count_include_pad=not counts)},
        )
        same = _same(operation)
        yield Hypothesis(
            cause=f'Keras pads an average pooling by {_listed(same)}, as "same" does, and does not count the padding',
            fix=f"{_mean_without_border_line(operation, same)}  # {case.place(operation)}",
            keras=in_keras(case, operation, "the pooling"),
            changes={operation.key: replaced_by(_mean_without_border, same)},
        )
        if any(first != last for first, last in same):
            yield Hypothesis(
                cause=f'Keras pads an average pooling by {_listed(same)}, as "same" does, and repeats the last value '
                "there (on its torch backend only)",
                fix="\n".join([_repeated_border(case, operation, same), *_unpadded(case, operation)]),
                keras=in_keras(case, operation, "the pooling"),
                changes={operation.key: replaced_by(_mean_with_repeated_border, same)},
            )


def _repeated_border(case: Case, operation: Operation, pads: Pads) -> str:
    """Return the line for torch that repeats the last values before a pooling."""
    note = only_at_this_size(operation, ints(_window(operation)[1], _rank(operation)))
    return f'x = F.pad(x, {flat(pads)}, mode="replicate")  # {case.before(operation)}{note}'


def _ceil_mode(case: Case) -> Iterator[Hypothesis]:
    for operation in case.operations_named(*_MAX_POOLING, *_AVERAGE_POOLING):
        ceil_mode = operation.get("ceil_mode", False)
        yield Hypothesis(
            cause=f"ceil_mode is {ceil_mode} in torch, Keras pools as with ceil_mode={not ceil_mode}",
            fix=f"ceil_mode={not ceil_mode}  # {case.place(operation)}",
            keras=in_keras(case, operation, "the pooling"),
            changes={operation.key: with_arguments(ceil_mode=not ceil_mode)},
        )


def _other_kind(case: Case) -> Iterator[Hypothesis]:
    for operation in case.operations_named(
        *_MAX_POOLING, *_AVERAGE_POOLING, "adaptive_avg_pool2d", "adaptive_max_pool2d"
    ):
        is_maximum = "max" in operation.name
        other = operation.name.replace("max", "avg") if is_maximum else operation.name.replace("avg", "max")
        cause = "torch pools by the mean, Keras by the maximum"
        if is_maximum:
            cause = "torch pools by the maximum, Keras by the mean"
        yield Hypothesis(
            cause=cause,
            fix=f"F.{other}  # {case.place(operation)}",
            keras=in_keras(case, operation, "the pooling"),
            changes={operation.key: replaced_by(_pooled_by, getattr(functional, other))},
        )


def _pooled_by(call: TorchCall, function: Callable[..., Any]) -> Any:
    shared: tuple[str, ...] = ("stride", "padding", "ceil_mode")
    size = "kernel_size"
    if "adaptive" in call.name:
        shared, size = (), "output_size"
    arguments = {name: call.get(name) for name in shared if call.get(name) is not None}
    window = call.args[1] if len(call.args) > 1 else call.kwargs[size]
    return function(call.get("input"), window, **arguments)


def _resize(case: Case) -> Iterator[Hypothesis]:
    for operation in case.operations_named("interpolate"):
        mode, aligned = operation.get("mode", "nearest"), bool(operation.get("align_corners"))
        smooth = mode in ("linear", "bilinear", "bicubic", "trilinear")
        rank = len(operation.get("input")) - 2
        others = {1: ("linear",), 2: ("bilinear", "bicubic"), 3: ("trilinear",)}.get(rank, ())
        candidates = [(mode, not aligned)] if smooth else []
        candidates += [(other, False) for other in ("nearest", "nearest-exact", *others) if other != mode]
        candidates += [(other, True) for other in others if other != mode]
        for other, corners in candidates:
            yield Hypothesis(
                cause=f"torch resizes with {_mode(mode, aligned)}, Keras with {_mode(other, corners)}",
                fix=f"F.interpolate(x, ..., {_arguments(other, corners)})  # {case.place(operation)}",
                keras=in_keras(case, operation, "the resizing"),
                changes={operation.key: replaced_by(_resized, other, corners)},
            )


def _resized(call: TorchCall, mode: str, corners: bool) -> Any:
    return call.run(mode=mode, align_corners=corners if not mode.startswith("nearest") else None)


def _mode(mode: str, corners: bool) -> str:
    if mode.startswith("nearest"):
        return {"nearest": "nearest (rounded down)", "nearest-exact": "nearest (from the middle of the pixel)"}[mode]
    return f"{mode} (align_corners={corners})"


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
    return tuple(same_padding(*axis) for axis in zip(extent, size, stride, strict=True))


def _padded(call: TorchCall, pads: Pads, value: float) -> Any:
    return call.run(input=functional.pad(call.get("input"), flat(pads), value=value), padding=0)


def _mean_without_border(call: TorchCall, pads: Pads) -> Any:
    values = call.get("input")
    ones = torch.ones_like(values)
    sums, counts = (call.run(input=functional.pad(x, flat(pads)), padding=0) for x in (values, ones))
    return sums / counts


def _mean_without_border_line(operation: Operation, pads: Pads) -> str:
    """Return the line for torch that pools by the mean, and does not count the padding."""
    if all(first == 0 for first, _ in pads):
        return "padding=0, ceil_mode=True"
    if all(first == last for first, last in pads):
        return f"padding={tuple(first for first, _ in pads)}, count_include_pad=False"
    size, stride = _window(operation)
    pool = f"F.{operation.name}(F.pad(x, {flat(pads)}), {size}, {stride})"
    return f"x = {pool} / {pool.replace('(x,', '(torch.ones_like(x),')}"


def _mean_with_repeated_border(call: TorchCall, pads: Pads) -> Any:
    values = functional.pad(call.get("input"), flat(pads), mode="replicate")
    return call.run(input=values, padding=0, ceil_mode=False)


def _listed(pads: Pads) -> str:
    return ", ".join(map(str, pads))


SUSPECTS = (
    Suspect("padding of a max pooling", _max_pooling_padding),
    Suspect("padding of an average pooling", _average_pooling_padding),
    Suspect("ceil mode", _ceil_mode),
    Suspect("maximum instead of mean", _other_kind),
    Suspect("resizing", _resize),
)
