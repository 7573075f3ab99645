"""Axes: values in another order, a softmax or a sum over another axis."""

from collections.abc import Callable, Iterator
from typing import Any

import torch

from keras3conv.frameworks.torch_replay import TorchCall
from keras3conv.validators.suspects.base import Case, Suspect, Suspicion, doing, running


def _flatten(case: Case) -> Iterator[Suspicion]:
    for operation in case.named("flatten", "reshape", "view"):
        if len(operation.get("input", ())) > 2 and len(operation.result or ()) == 2:
            yield Suspicion(
                cause="its input has the same values in another order: torch flattens (c, h, w), Keras (h, w, c)",
                fix=f'plan = plan.unpair("{case.torch_path}")  # and align again with inputs, so that Flatten is seen',
                changes={operation.key: _channels_last},
            )


def _channels_last(call: TorchCall) -> Any:
    values = call.get("input")
    return values.movedim(1, -1).reshape(call.run().shape)


def _axis(case: Case) -> Iterator[Suspicion]:
    for operation in case.named("softmax", "log_softmax", "normalize", "cumsum", "flip", "roll"):
        rank, ours = len(operation.get("input", ())), operation.get("dim", 1 if operation.name == "normalize" else None)
        for axis in range(rank) if isinstance(ours, int) else ():
            if axis != ours % rank:
                yield Suspicion(
                    cause=f"{operation.name} is over axis {ours} in torch, and over torch's axis {axis} in Keras",
                    fix=f"{operation.name}(..., dim={axis})  # {operation.owner or case.where}",
                    changes={operation.key: running(dim=axis)},
                )


def _order_of_parts(case: Case) -> Iterator[Suspicion]:
    for operation in case.named("cat"):
        yield Suspicion(
            cause="what is concatenated stands in another order in Keras",
            fix=f"torch.cat([...][::-1])  # {operation.owner or case.where}",
            changes={operation.key: lambda call: call.run(tensors=list(call.get("tensors"))[::-1])},
        )


def _pixel_shuffle(case: Case) -> Iterator[Suspicion]:
    for operation in case.named("pixel_shuffle"):
        yield Suspicion(
            cause="the channels of a pixel shuffle are in another order: torch has (c r r), Keras (r r c)",
            fix=f"x = x.unflatten(1, (r * r, -1)).transpose(1, 2).flatten(1, 2)  # before {operation.owner}",
            changes={operation.key: _blocks_first},
        )


def _blocks_first(call: TorchCall) -> Any:
    factor = call.get("upscale_factor")
    return call.run(input=call.get("input").unflatten(1, (factor * factor, -1)).transpose(1, 2).flatten(1, 2))


def _reversed(case: Case) -> Iterator[Suspicion]:
    for operation in case.named("sub", "div", "matmul", "bmm"):
        first, second = operation.get("input"), operation.get("dim")
        if isinstance(first, tuple) and isinstance(second, tuple) and first == second:
            yield Suspicion(
                cause=f"the two arguments of {operation.name} are swapped",
                fix=f"torch.{operation.name}(b, a)  # {operation.owner or case.where}",
                changes={operation.key: lambda call: call.run(input=call.get("dim"), dim=call.get("input"))},
            )


def _by(call: TorchCall, function: Callable[..., Any]) -> Any:
    return TorchCall(function, call.args, call.kwargs).run()


def _mean_for_sum(case: Case) -> Iterator[Suspicion]:
    for ours, other in (("mean", "sum"), ("sum", "mean"), ("amax", "mean"), ("mean", "amax")):
        for operation in case.named(ours):
            function = getattr(torch, other)
            yield Suspicion(
                cause=f"torch takes the {ours} over {operation.get('dim')}, Keras the {other}",
                fix=f"x.{other}({operation.get('dim')})  # {operation.owner or case.where}",
                changes={operation.key: doing(_by, function)},
            )


SUSPECTS = (
    Suspect("order of what is flattened", _flatten),
    Suspect("another axis", _axis),
    Suspect("order of what is concatenated", _order_of_parts),
    Suspect("order of a pixel shuffle", _pixel_shuffle),
    Suspect("arguments swapped", _reversed),
    Suspect("mean for sum", _mean_for_sum),
)
