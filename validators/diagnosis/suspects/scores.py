"""Propose mistakes in attention scores that the model computes itself as causes: mask, bias, padding, scale."""

from collections.abc import Callable, Iterator
from typing import Any

import torch

from keras3conv.frameworks.torch.calls import Change, Key, Operation, TorchCall
from keras3conv.validators.diagnosis.suspects.base import Case, Hypothesis, Suspect, replaced_by

Scoring = Callable[[Any, Any], Any]
"""A function from the attention scores and torch's additive mask to the input of the softmax."""

_SCALED = "scaled_dot_product_attention"
_ADDED = ("add", "sub")
_FILLED = ("masked_fill", "where")


def _softmaxes(case: Case) -> Iterator[Operation]:
    """Yield the softmax calls that may compute attention weights: their input has a query axis and a key axis."""
    return (operation for operation in case.operations_named("softmax") if len(operation.get("input") or ()) >= 3)


def _is_square(shape: Any) -> bool:
    return isinstance(shape, tuple) and len(shape) > 1 and shape[-1] == shape[-2]


def _mask(case: Case) -> Iterator[Hypothesis]:
    """Yield hypotheses that Keras applies the attention mask differently from torch, which adds it to the scores.

    Instead of adding the mask, torch may also fill masked scores with a low number.
    """
    for softmax in _softmaxes(case):
        before = [operation for operation in case.torch.operations if operation.place < softmax.place]
        masks = [operation for operation in before if _may_mask(operation)]
        if masks:
            yield from _other_masks(case, masks[-1])
    for operation in case.operations_named(_SCALED):
        if operation.get("attn_mask") is not None or operation.get("is_causal"):
            yield from _other_masks(case, operation)


def _may_mask(operation: Operation) -> bool:
    if operation.name in _FILLED:
        return operation.result is not None
    shapes = operation.get("input"), operation.get("dim")
    return operation.name in _ADDED and all(isinstance(shape, tuple) for shape in shapes)


def _other_masks(case: Case, operation: Operation) -> Iterator[Hypothesis]:
    replacement = _attention if operation.name == _SCALED else _masked_scores
    for cause, line, scoring in _OTHER_SCORINGS:
        yield Hypothesis(
            cause=cause,
            fix=f"{line}  # {case.place(operation)}" if line == _INVERTED else "",
            keras=f"{line}  # {case.where_keras}",
            changes={operation.key: replaced_by(replacement, scoring)},
        )


def _masked_scores(call: TorchCall, scoring: Scoring) -> Any:
    return scoring(*_scores_and_mask(call))


def _scores_and_mask(call: TorchCall) -> tuple[Any, Any]:
    """Return the scores and the additive mask in an operation that masks attention scores."""
    if call.name == "masked_fill":
        scores = call.get("input")
        return scores, torch.zeros_like(scores).masked_fill(call.get("mask"), _least(scores))
    if call.name == "where":
        condition, first, second = (call.get(name) for name in ("condition", "input", "other"))
        scores, attended = (second, ~condition)
        if getattr(first, "ndim", 0) > getattr(second, "ndim", 0):
            scores, attended = first, condition
        return scores, torch.where(attended, 0.0, _least(scores)).to(scores.dtype)
    first, second = call.get("input"), call.get("dim")  # the second argument is named `dim`
    scores, added = (first, second) if first.numel() >= second.numel() else (second, first)
    return scores, -added if call.name == "sub" else added


def _attention(call: TorchCall, scoring: Scoring) -> Any:
    """Compute `scaled_dot_product_attention` with elementary operations.

    `scoring` combines the scores and the mask before the softmax.
    """
    query, key, value = (call.get(name) for name in ("query", "key", "value"))
    scale = call.kwargs.get("scale") or query.shape[-1] ** -0.5
    scores = query @ key.transpose(-1, -2) * scale
    return scoring(scores, _additive_mask(call, scores)).softmax(-1) @ value


def _additive_mask(call: TorchCall, scores: Any) -> Any:
    """Return the mask of an attention call as numbers to add to the scores: 0, or very negative where masked."""
    mask = call.get("attn_mask")
    if call.get("is_causal"):
        mask = torch.ones_like(scores, dtype=torch.bool).tril()
    if mask is None:
        return torch.zeros_like(scores)
    return torch.where(mask, 0.0, _least(scores)).to(scores.dtype) if mask.dtype == torch.bool else mask


def _least(scores: Any) -> float:
    """Return a score so low that its softmax weight is zero, yet to which a score can be added without overflow."""
    return float(torch.finfo(scores.dtype).min) / 4


def _is_attended(mask: Any) -> Any:
    return mask > -1.0


def _unmasked(scores: Any, mask: Any) -> Any:
    return scores


def _inverted(scores: Any, mask: Any) -> Any:
    return torch.where(_is_attended(mask), _least(scores), scores)


def _as_number(scores: Any, mask: Any) -> Any:
    return scores + _is_attended(mask).to(scores.dtype)


def _as_factor(scores: Any, mask: Any) -> Any:
    return scores * _is_attended(mask).to(scores.dtype)


def _transposed(scores: Any, mask: Any) -> Any:
    return scores + mask.transpose(-1, -2)


_MASKED = "scores = keras.ops.where(mask, scores, -1e30)"

_INVERTED = "mask = ~mask"
"""The line that inverts a mask, which is the same in both frameworks."""

_OTHER_SCORINGS = (
    ("Keras does not add torch's mask or position bias to the attention scores", _MASKED, _unmasked),
    ("the mask is inverted: Keras attends to the positions that torch masks", _INVERTED, _inverted),
    ("Keras adds the mask itself to the scores: 1 where it attends", _MASKED, _as_number),
    ("Keras multiplies the scores by the mask", _MASKED, _as_factor),
    (
        "the last two axes of the mask or bias that is added to the scores are transposed in Keras",
        "x = keras.ops.swapaxes(x, -1, -2)",
        _transposed,
    ),
)
"""Mistakes in the use of a mask: the cause, the line of code to paste, and the resulting scoring function."""


def _causal(case: Case) -> Iterator[Hypothesis]:
    for softmax in _softmaxes(case):
        if _is_square(softmax.get("input")):
            yield Hypothesis(
                cause="attention is causal in Keras, but not in torch",
                fix=f"scores = scores.masked_fill(~torch.ones_like(scores, dtype=torch.bool).tril(), -torch.inf)  "
                f"# before the softmax {case.place(softmax)}",
                keras=f"# {case.where_keras}: without the causal mask (use_causal_mask=False)",
                changes={softmax.key: _with_causal_mask},
            )


def _with_causal_mask(call: TorchCall) -> Any:
    scores = call.get("input")
    later = torch.ones_like(scores, dtype=torch.bool).triu(1)
    return call.run(input=scores.masked_fill(later, _least(scores)))


def _padding(case: Case) -> Iterator[Hypothesis]:
    """Yield hypotheses that Keras masks padding, and torch does not."""
    tables = [operation for operation in case.torch.operations_before if operation.name == "embedding"]
    names = ("softmax", _SCALED)
    calls = [operation for operation in case.torch.operations if operation.name in names]
    if not tables or not calls:
        return
    for row in dict.fromkeys((0, 1, tables[0].get("padding_idx"))):
        remembered: dict[str, Any] = {}
        changes: dict[Key, Change] = {tables[0].key: replaced_by(_remember_indices, remembered)}
        changes |= {operation.key: replaced_by(_with_padding_mask, remembered, row) for operation in calls}
        if row is not None:
            yield Hypothesis(
                cause=f"Keras masks positions with index {row} as padding, torch does not",
                fix=f"attention_mask = indices != {row}  # {case.where}",
                keras=f"# {case.where_keras}: without the mask of the padding (mask_zero=False in the Embedding)",
                changes=changes,
            )


def _remember_indices(call: TorchCall, remembered: dict[str, Any]) -> Any:
    remembered["indices"] = call.get("input")
    return call.run()


def _with_padding_mask(call: TorchCall, remembered: dict[str, Any], row: int) -> Any:
    attended = remembered["indices"] != row
    if call.name == "softmax":
        scores = call.get("input")
        shape = [len(attended), *[1] * (scores.ndim - 2), attended.shape[-1]]
        return call.run(input=scores.masked_fill(~attended.reshape(shape), _least(scores)))
    return call.run(attn_mask=attended[:, None, None, :])


def _scale(case: Case) -> Iterator[Hypothesis]:
    for softmax in _softmaxes(case):
        products = [
            operation
            for operation in case.torch.operations
            if operation.name in ("matmul", "bmm", "einsum", "baddbmm") and operation.place < softmax.place
        ]
        query = products[-1].get("input") if products else None
        if not isinstance(query, tuple) or len(query) < 2:
            continue
        width, heads = query[-1], query[1] if len(query) == 4 else 1
        for formula, factor in (
            ("1 / sqrt(width of a head)", width**-0.5),
            ("sqrt(width of a head)", width**0.5),
            ("1 / sqrt(heads)", heads**-0.5),
            ("sqrt(heads)", heads**0.5),
            ("the width of a head", float(width)),
            ("1 / width of a head", 1 / width),
        ):
            if factor != 1:
                yield Hypothesis(
                    cause=f"the scores are {formula} = {factor:.6g} times as large in Keras as in torch",
                    fix=f"scores = scores * {factor!r}  # after {products[-1].name} {case.where}",
                    keras=f"scores = scores / {factor!r}  # {case.where_keras}",
                    changes={products[-1].key: replaced_by(_times, factor)},
                )


def _times(call: TorchCall, factor: float) -> Any:
    return call.run() * factor


def _roles(case: Case) -> Iterator[Hypothesis]:
    for softmax in _softmaxes(case):
        products = [
            operation
            for operation in case.torch.operations
            if operation.name in ("matmul", "bmm") and operation.place < softmax.place and _is_square(operation.result)
        ]
        if products:
            yield Hypothesis(
                cause="query and key are swapped",
                keras=f"query, key = key, query  # {case.where_keras}",
                changes={products[-1].key: lambda call: call.run().transpose(-1, -2)},
            )


SUSPECTS = (
    Suspect("query and key swapped in own code", _roles),
    Suspect("mask in own code", _mask),
    Suspect("causal in Keras only", _causal),
    Suspect("padding mask in Keras only", _padding),
    Suspect("scale of scores in own code", _scale),
)
