"""Attention that a model writes out itself: what is done to the scores before their softmax."""

from collections.abc import Callable, Iterator
from typing import Any

import torch

from keras3conv.frameworks.torch.replay import Change, Key, Operation, TorchCall
from keras3conv.transforms import Shape
from keras3conv.validators.diagnosis.suspects.base import Case, Suspect, Suspicion, doing

Scoring = Callable[[Any, Any], Any]
"""From the scores, and what torch adds to them, to what goes into the softmax."""

_SCALED = "scaled_dot_product_attention"
_ADDED = ("add", "sub")
_FILLED = ("masked_fill", "where")


def _softmaxes(case: Case) -> Iterator[Operation]:
    """The calls of softmax over scores: one number for every two places, in the last two axes."""
    return (operation for operation in case.named("softmax") if len(operation.get("input") or ()) >= 3)


def _is_square(shape: Any) -> bool:
    return isinstance(shape, tuple) and len(shape) > 1 and shape[-1] == shape[-2]


def _mask(case: Case) -> Iterator[Suspicion]:
    """What is added to the scores, or filled into them, says where is attended to."""
    for softmax in _softmaxes(case):
        before = [operation for operation in case.operations if operation.place < softmax.place]
        masks = [operation for operation in before if _masks(operation, softmax.get("input"))]
        if masks:
            yield from _of_mask(case, masks[-1])
    for operation in case.named(_SCALED):
        if operation.get("attn_mask") is not None or operation.get("is_causal"):
            yield from _of_mask(case, operation)


def _masks(operation: Operation, scores: Shape) -> bool:
    if operation.name in _FILLED:
        return operation.result is not None
    shapes = operation.get("input"), operation.get("dim")
    return operation.name in _ADDED and all(isinstance(shape, tuple) for shape in shapes)


def _of_mask(case: Case, operation: Operation) -> Iterator[Suspicion]:
    where = operation.owner or case.where
    is_whole = operation.name == _SCALED
    for cause, fix, change in _OTHERWISE:
        place = where if fix.startswith("mask") else case.where_keras
        change_here = doing(_attention, change) if is_whole else doing(_at_the_mask, change)
        yield Suspicion(cause=cause, fix=f"{fix}  # {place}", changes={operation.key: change_here})


def _at_the_mask(call: TorchCall, change: Scoring) -> Any:
    return change(*_parts(call))


def _parts(call: TorchCall) -> tuple[Any, Any]:
    """The scores, and what is to be added to them."""
    if call.name == "masked_fill":
        scores = call.get("input")
        return scores, torch.zeros_like(scores).masked_fill(call.get("mask"), _least(scores))
    if call.name == "where":
        condition, first, second = (call.get(name) for name in ("condition", "input", "other"))
        is_first = getattr(first, "ndim", 0) > getattr(second, "ndim", 0)
        scores, kept = (first, condition) if is_first else (second, ~condition)
        return scores, torch.where(kept, 0.0, _least(scores)).to(scores.dtype)
    first, second = call.get("input"), call.get("dim")
    scores, added = (first, second) if first.numel() >= second.numel() else (second, first)
    return scores, -added if call.name == "sub" else added


def _attention(call: TorchCall, change: Scoring) -> Any:
    """The same as `scaled_dot_product_attention`, with the scores within reach."""
    query, key, value = (call.get(name) for name in ("query", "key", "value"))
    scale = call.kwargs.get("scale") or query.shape[-1] ** -0.5
    scores = query @ key.transpose(-1, -2) * scale
    return change(scores, _added(call, scores)).softmax(-1) @ value


def _added(call: TorchCall, scores: Any) -> Any:
    """What a call of attention adds to the scores: its mask as numbers."""
    mask = call.get("attn_mask")
    if call.get("is_causal"):
        mask = torch.ones_like(scores, dtype=torch.bool).tril()
    if mask is None:
        return torch.zeros_like(scores)
    return torch.where(mask, 0.0, _least(scores)).to(scores.dtype) if mask.dtype == torch.bool else mask


def _least(scores: Any) -> float:
    return float(torch.finfo(scores.dtype).min) / 4


def _attended(added: Any) -> Any:
    return added > -1.0


def _without(scores: Any, added: Any) -> Any:
    return scores


def _inverted(scores: Any, added: Any) -> Any:
    return torch.where(_attended(added), _least(scores), scores)


def _as_number(scores: Any, added: Any) -> Any:
    return scores + _attended(added).to(scores.dtype)


def _as_factor(scores: Any, added: Any) -> Any:
    return scores * _attended(added).to(scores.dtype)


def _transposed(scores: Any, added: Any) -> Any:
    return scores + added.transpose(-1, -2)


_MASKED = "scores = keras.ops.where(mask, scores, -1e30)"

_OTHERWISE = (
    ("Keras does without what torch adds to the scores: a mask, or a bias of the places", _MASKED, _without),
    ("the mask is inverted: what is left out in torch is attended to in Keras", "mask = ~mask", _inverted),
    ("Keras adds the mask as it is, 1 for what is attended to", _MASKED, _as_number),
    ("Keras multiplies the scores by the mask", _MASKED, _as_factor),
    (
        "the last two axes of what is added to the scores are transposed in Keras",
        "x = keras.ops.swapaxes(x, -1, -2)",
        _transposed,
    ),
)
"""What else can be done with the scores, and with what torch adds to them."""


def _causal(case: Case) -> Iterator[Suspicion]:
    for softmax in _softmaxes(case):
        if _is_square(softmax.get("input")):
            yield Suspicion(
                cause="attention is causal in Keras, and not in torch",
                fix=f"scores = scores.masked_fill(~torch.ones_like(scores, dtype=torch.bool).tril(), -torch.inf)  "
                f"# before the softmax {softmax.owner or case.where}",
                changes={softmax.key: _causally},
            )


def _causally(call: TorchCall) -> Any:
    scores = call.get("input")
    later = torch.ones_like(scores, dtype=torch.bool).triu(1)
    return call.run(input=scores.masked_fill(later, _least(scores)))


def _padding(case: Case) -> Iterator[Suspicion]:
    """Keras leaves out what is padding; torch was not told."""
    tables = [operation for operation in case.before if operation.name == "embedding"]
    names = ("softmax", _SCALED)
    calls = [operation for operation in case.operations if operation.name in names]
    if not tables or not calls:
        return
    for row in dict.fromkeys((0, 1, tables[0].get("padding_idx"))):
        kept: dict[str, Any] = {}
        changes: dict[Key, Change] = {tables[0].key: doing(_keeping_indices, kept)}
        changes |= {operation.key: doing(_without_padding, kept, row) for operation in calls}
        if row is not None:
            yield Suspicion(
                cause=f"Keras attends to nothing where the index is {row}, as padding; torch is given no such mask",
                fix=f"attention_mask = indices != {row}  # {case.where}",
                changes=changes,
            )


def _keeping_indices(call: TorchCall, kept: dict[str, Any]) -> Any:
    kept["indices"] = call.get("input")
    return call.run()


def _without_padding(call: TorchCall, kept: dict[str, Any], row: int) -> Any:
    attended = kept["indices"] != row
    if call.name == "softmax":
        scores = call.get("input")
        shape = [len(attended), *[1] * (scores.ndim - 2), attended.shape[-1]]
        return call.run(input=scores.masked_fill(~attended.reshape(shape), _least(scores)))
    return call.run(attn_mask=attended[:, None, None, :])


def _scale(case: Case) -> Iterator[Suspicion]:
    for softmax in _softmaxes(case):
        products = [
            operation
            for operation in case.operations
            if operation.name in ("matmul", "bmm", "einsum", "baddbmm") and operation.place < softmax.place
        ]
        query = products[-1].get("input") if products else None
        if not isinstance(query, tuple) or len(query) < 2:
            continue
        width, heads = query[-1], query[1] if len(query) == 4 else 1
        for told, factor in (
            ("1 / sqrt(width of a head)", width**-0.5),
            ("sqrt(width of a head)", width**0.5),
            ("1 / sqrt(heads)", heads**-0.5),
            ("sqrt(heads)", heads**0.5),
            ("the width of a head", float(width)),
            ("1 / width of a head", 1 / width),
        ):
            if factor != 1:
                yield Suspicion(
                    cause=f"the scores are {told} = {factor:.6g} times as large in Keras as in torch",
                    fix=f"scores = scores * {factor!r}  # in torch, after {products[-1].name} {case.where}",
                    changes={products[-1].key: doing(_times, factor)},
                )


def _times(call: TorchCall, factor: float) -> Any:
    return call.run() * factor


def _roles(case: Case) -> Iterator[Suspicion]:
    for softmax in _softmaxes(case):
        products = [
            operation
            for operation in case.operations
            if operation.name in ("matmul", "bmm") and operation.place < softmax.place and _is_square(operation.result)
        ]
        if products:
            yield Suspicion(
                cause="query and key are swapped",
                fix=f"query, key = key, query  # {case.where_keras}",
                changes={products[-1].key: lambda call: call.run().transpose(-1, -2)},
            )


SUSPECTS = (
    Suspect("roles in written-out attention", _roles),
    Suspect("mask of written-out attention", _mask),
    Suspect("causal in Keras alone", _causal),
    Suspect("padding that Keras leaves out", _padding),
    Suspect("scale of written-out scores", _scale),
)
