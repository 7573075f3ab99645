"""Matrix products: a square matrix that was not transposed, a bias that got lost."""

from collections.abc import Iterator
from typing import Any

from keras3conv.frameworks.torch.replay import TorchCall
from keras3conv.transforms import Shape
from keras3conv.validators.diagnosis.suspects.base import Case, Suspect, Suspicion, doing, running


def _transposed(case: Case) -> Iterator[Suspicion]:
    for operation in case.named("linear"):
        shape = operation.get("weight", ())
        if len(shape) == 2 and shape[0] == shape[1]:
            yield Suspicion(
                cause="the kernel is transposed: torch has (out, in), Keras (in, out)",
                fix=f'plan = plan.pair("{case.torch_path}", "{case.keras_path}")',
                changes={operation.key: lambda call: call.run(weight=call.get("weight").T)},
            )


def _flattened(case: Case) -> Iterator[Suspicion]:
    """The rows of a kernel after a Flatten, which follow torch's order although Keras flattens in another."""
    shape = case.flattened
    for operation in case.named("linear"):
        if shape is not None and len(shape) > 1 and len(operation.get("input")) == 2:
            yield Suspicion(
                cause="the kernel's rows are in another order: torch flattens (c, h, w), Keras (h, w, c)",
                fix="plan = k3c.align(torch, keras, inputs=x)  # with inputs, so that the Flatten is seen",
                changes={operation.key: doing(_input_channels_last, shape)},
            )


def _input_channels_last(call: TorchCall, shape: Shape) -> Any:
    return call.run(input=call.get("input").unflatten(1, shape).movedim(1, -1).flatten(1))


def _no_bias(case: Case) -> Iterator[Suspicion]:
    names = ("linear", *(f"conv{kind}{rank}d" for kind in ("", "_transpose") for rank in (1, 2, 3)))
    for operation in case.named(*names):
        if operation.get("bias") is not None:
            yield Suspicion(
                cause="Keras adds no bias, torch does",
                fix=f"bias=False  # {operation.owner}, or use_bias=True in {case.keras_path}",
                changes={operation.key: running(bias=None)},
            )


SUSPECTS = (
    Suspect("kernel transposed", _transposed),
    Suspect("rows of a kernel after a Flatten", _flattened),
    Suspect("bias lost", _no_bias),
)
