"""Propose mistakes in matrix products as causes: a transposed square kernel, rows in another order, no bias."""

from collections.abc import Iterator
from typing import Any

from keras3conv.frameworks.torch.calls import TorchCall
from keras3conv.transforms import Shape
from keras3conv.validators.diagnosis.suspects.base import Case, Hypothesis, Suspect, replaced_by, with_arguments


def _transposed(case: Case) -> Iterator[Hypothesis]:
    for operation in case.operations_named("linear"):
        shape = operation.get("weight", ())
        if len(shape) == 2 and shape[0] == shape[1]:
            yield Hypothesis(
                cause="the kernel is transposed: torch has (out, in), Keras (in, out)",
                fix=case.pair_again(),
                changes={operation.key: lambda call: call.run(weight=call.get("weight").T)},
            )


def _flattened(case: Case) -> Iterator[Hypothesis]:
    """Yield hypotheses that a kernel after a Flatten has its rows in torch's order (channels first), not in Keras'."""
    shape = case.torch.flattened
    for operation in case.operations_named("linear"):
        if shape is not None and len(shape) > 1 and len(operation.get("input")) == 2:
            yield Hypothesis(
                cause="the kernel's rows are in another order: torch flattens (c, h, w), Keras (h, w, c)",
                fix=case.of_plan("plan = k3c.align(torch, keras, inputs=x)", "with inputs, to detect the Flatten"),
                changes={operation.key: replaced_by(_input_channels_last, shape)},
            )


def _input_channels_last(call: TorchCall, shape: Shape) -> Any:
    return call.run(input=call.get("input").unflatten(1, shape).movedim(1, -1).flatten(1))


def _no_bias(case: Case) -> Iterator[Hypothesis]:
    names = ("linear", *(f"conv{kind}{rank}d" for kind in ("", "_transpose") for rank in (1, 2, 3)))
    for operation in case.operations_named(*names):
        if operation.get("bias") is not None:
            yield Hypothesis(
                cause="Keras adds no bias, torch does",
                fix=f"bias=False  # {case.place(operation)}",
                keras=f"use_bias=True  # {case.point.keras_path}",
                changes={operation.key: with_arguments(bias=None)},
            )


SUSPECTS = (
    Suspect("kernel transposed", _transposed),
    Suspect("kernel rows after a Flatten", _flattened),
    Suspect("bias missing", _no_bias),
)
