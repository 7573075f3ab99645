"""Axes: values in another order, a softmax or a sum over another axis."""

from collections.abc import Callable, Iterator
from itertools import combinations, permutations
from typing import Any

import torch

from keras3conv.frameworks.torch.replay import Operation, TorchCall
from keras3conv.transforms import Shape
from keras3conv.validators.diagnosis.suspects.base import Case, Suspect, Suspicion, doing, running

MANY = 4
"""Of so many parts every order is tried."""


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
    for operation in case.named("softmax", "log_softmax", "normalize", "cumsum", "flip"):
        rank, ours = len(operation.get("input", ())), operation.get("dim", 1 if operation.name == "normalize" else None)
        for axis in range(rank) if isinstance(ours, int) else ():
            if axis != ours % rank:
                yield Suspicion(
                    cause=f"{operation.name} is over axis {ours} in torch, and over torch's axis {axis} in Keras",
                    fix=f"{operation.name}(..., dim={axis})  # {operation.owner or case.where}",
                    changes={operation.key: running(dim=axis)},
                )


def _order_of_parts(case: Case) -> Iterator[Suspicion]:
    for operation in case.named("cat", "stack", "concat"):
        number = len(operation.get("tensors") or operation.get("input") or ())
        for order in _orders(number):
            yield Suspicion(
                cause=f"what is concatenated stands in another order in Keras: {_places(order)}",
                fix=f"torch.cat([parts[place] for place in {order}])  # {operation.owner or case.where}",
                changes={operation.key: doing(_in_order, order)},
            )


def _parts_of_a_split(case: Case) -> Iterator[Suspicion]:
    """One tensor cut into several (a packed query, key and value), which Keras takes in another order."""
    for operation in case.named("split", "chunk", "unbind", "tensor_split"):
        for order in _orders(operation.parts):
            yield Suspicion(
                cause=f"the parts of a split are taken in another order in Keras: {_places(order)}",
                fix=f"parts = [parts[place] for place in {order}]  # after {operation.name}, "
                f"{operation.owner or case.where}",
                changes={operation.key: doing(_parts_in_order, order)},
            )


def _packed_by_head(case: Case) -> Iterator[Suspicion]:
    """Query, key and value one after the other for all heads in torch, and for one head after the other in Keras."""
    for operation in case.named("split", "chunk"):
        shape: Shape = operation.get("input") or ()
        if operation.parts < 2 or operation.get("dim", 0) not in (-1, len(shape) - 1):
            continue
        width = shape[-1] // operation.parts
        for heads in (number for number in range(2, width + 1) if width % number == 0):
            yield Suspicion(
                cause=f"torch splits in {operation.parts} for all {heads} heads at once, Keras head by head",
                fix=f"x = x.unflatten(-1, ({heads}, {operation.parts}, -1)).transpose(-2, -3).flatten(-3)  "
                f"# before {operation.name} {operation.owner or case.where}",
                changes={operation.key: doing(_head_by_head, operation.parts, heads)},
            )


def _head_by_head(call: TorchCall, parts: int, heads: int) -> Any:
    return call.run(input=call.get("input").unflatten(-1, (heads, parts, -1)).transpose(-2, -3).flatten(-3))


def _orders(number: int) -> Iterator[list[int]]:
    """The other orders of so many parts: all of a few, and of more the reverse, each end moved and each two swapped."""
    own = list(range(number))
    if number <= MANY:
        found = [list(order) for order in permutations(own)]
    else:
        found = [own[::-1], [*own[1:], 0], [own[-1], *own[:-1]]]
        found += [_swapped(own, first, second) for first, second in combinations(own, 2)]
    yield from (order for order in found if order != own)


def _swapped(own: list[int], first: int, second: int) -> list[int]:
    order = list(own)
    order[first], order[second] = second, first
    return order


def _places(order: list[int]) -> str:
    return f"torch's {', '.join(str(place + 1) for place in order)}"


def _in_order(call: TorchCall, order: list[int]) -> Any:
    name = "tensors" if call.name == "cat" else "input"
    parts = call.get(name)
    return call.run(**{name: [parts[place] for place in order]})


def _parts_in_order(call: TorchCall, order: list[int]) -> Any:
    parts = call.run()
    return type(parts)(parts[place] for place in order)


def _picked(case: Case) -> Iterator[Suspicion]:
    """One place of a row of them (the first token, the last step), for which Keras takes another, or the mean."""
    for operation in case.named("__getitem__", "select"):
        found = _place(operation)
        if found is None:
            continue
        axis, ours = found
        for told, theirs in (("the first", 0), ("the last", -1), ("the mean", None)):
            if theirs != ours:
                yield Suspicion(
                    cause=f"torch takes place {ours} along axis {axis} {case.where}, Keras {told}",
                    fix=f"x = x.{f'select({axis}, {theirs})' if theirs is not None else f'mean({axis})'}  "
                    f"# {operation.owner or case.where}",
                    changes={operation.key: doing(_other_place, axis, theirs)},
                )


def _place(operation: Operation) -> tuple[int, int] | None:
    """The axis of which one place is taken, and that place; None if all other axes are not taken whole."""
    if operation.name == "select":
        return operation.get("dim"), operation.get("index")
    index = operation.get("dim")
    index = index if isinstance(index, list) else [index]
    places = [axis for axis, entry in enumerate(index) if isinstance(entry, int) and not isinstance(entry, bool)]
    whole = all(entry == slice(None) for axis, entry in enumerate(index) if axis not in places)
    return (places[0], index[places[0]]) if len(places) == 1 and whole else None


def _other_place(call: TorchCall, axis: int, place: int | None) -> Any:
    values = call.get("input")
    return values.mean(axis) if place is None else values.select(axis, place)


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
    Suspect("order of the parts of a split", _parts_of_a_split),
    Suspect("packed head by head", _packed_by_head),
    Suspect("order of a pixel shuffle", _pixel_shuffle),
    Suspect("another place", _picked),
    Suspect("arguments swapped", _reversed),
    Suspect("mean for sum", _mean_for_sum),
)
