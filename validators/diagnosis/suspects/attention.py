"""Propose mistakes in attention calls as causes: swapped query and key, an inverted mask, another scale."""

from collections.abc import Iterator
from typing import Any

import torch

from keras3conv.frameworks.torch.calls import Operation, TorchCall
from keras3conv.validators.diagnosis.suspects.base import Case, Hypothesis, Suspect, replaced_by, with_arguments

_SCALED = "scaled_dot_product_attention"
_PACKED = "multi_head_attention_forward"
_ROLES = ("query", "key", "value")

HEADS_SPLIT_OTHERWISE = (
    "the heads are split in another order: torch has features as (heads, width), Keras as (width, heads)"
)


def split_and_merged(place: str) -> str:
    """Return two torch lines: one splits the features into (width, heads), one merges them again.

    `place` says where to paste the lines, in words, such as "in block.0".
    """
    split = f"x = x.unflatten(-1, (-1, heads)).transpose(-1, -2)  # {place}, to split query, key and value into heads"
    return f"{split}\nx = x.transpose(-1, -2).flatten(-2)  # {place}, to merge the heads"


def _swapped(case: Case) -> Iterator[Hypothesis]:
    for first, second in ((0, 1), (0, 2), (1, 2)):
        one, other = _ROLES[first], _ROLES[second]
        cause, fix = f"{one} and {other} are swapped", _align_again(case, f"{one} with {other}")
        for operation in case.operations_named(_SCALED):
            if operation.get(one) == operation.get(other):  # equal shapes
                change = replaced_by(_swap_arguments, one, other)
                yield Hypothesis(cause=cause, fix=fix, changes={operation.key: change})
        for operation in case.operations_named(_PACKED):
            change = replaced_by(_swap_packed_parts, first, second)
            yield Hypothesis(cause=cause, fix=fix, changes={operation.key: change})


def _swap_arguments(call: TorchCall, first: str, second: str) -> Any:
    return call.run(**{first: call.get(second), second: call.get(first)})


def _align_again(case: Case, wrong: str) -> str:
    layer = case.point.keras_path or case.where
    return case.of_plan("plan = k3c.align(torch, keras, inputs=x)", f"the plan before pairs {wrong}: {layer}")


def _swap_packed_parts(call: TorchCall, first: int, second: int) -> Any:
    order = [0, 1, 2]
    order[first], order[second] = second, first
    changed = {}
    for name in ("in_proj_weight", "in_proj_bias"):
        if (packed := call.get(name)) is not None:
            changed[name] = torch.cat([packed.chunk(3)[index] for index in order])
    return call.run(**changed)


def _mask(case: Case) -> Iterator[Hypothesis]:
    """Yield hypotheses that the mask of an attention is inverted or missing in Keras.

    True means masked in `nn.MultiheadAttention`, and attended to in Keras.
    """
    for operation in case.operations_named(_SCALED, _PACKED):
        for name in ("attn_mask", "key_padding_mask"):
            if operation.get(name) is not None:
                meaning = "attend" if operation.name == _SCALED else "mask out"
                yield Hypothesis(
                    cause=f"the mask is inverted: True means {meaning} in torch, and the opposite in Keras",
                    fix=f"{name} = ~{name}  # {case.place(operation)}",
                    keras=f"attention_mask = ~attention_mask  # {case.where_keras}",
                    changes={operation.key: replaced_by(_invert_mask, name)},
                )
                yield Hypothesis(
                    cause="Keras ignores the attention mask",
                    keras=f"attention_mask={_mask_of_keras(operation, name)}  "
                    f"# {case.point.keras_path or case.where_keras}",
                    changes={operation.key: with_arguments(**{name: None})},
                )
    for operation in case.operations_named("masked_fill", "where"):
        name = "mask" if operation.name == "masked_fill" else "condition"
        yield Hypothesis(
            cause="the mask is inverted: Keras attends to the positions that torch masks",
            fix=f"{name} = ~{name}  # {case.place(operation)}",
            keras=f"mask = ~mask  # {case.where_keras}",
            changes={operation.key: replaced_by(_invert_mask, name)},
        )


def _mask_of_keras(operation: Operation, name: str) -> str:
    """Return code that converts the mask argument `name` of a torch attention to Keras: "~key_padding_mask[:, None]".

    Keras' masks are True where a query attends to a key, and have an axis for the queries.
    """
    if operation.name == _SCALED:
        return name
    return f"~{name}" if name == "attn_mask" else f"~{name}[:, None]"


def _invert_mask(call: TorchCall, name: str) -> Any:
    mask = call.get(name)
    inverted = ~mask if mask.dtype == torch.bool else torch.where(mask < 0, 0.0, float("-inf")).to(mask.dtype)
    return call.run(**{name: inverted})


def _causal(case: Case) -> Iterator[Hypothesis]:
    for operation in case.operations_named(_SCALED):
        is_causal = bool(operation.get("is_causal", False))
        cause = "attention is causal in torch, but not in Keras"
        if not is_causal:
            cause = "attention is not causal in torch, but is causal in Keras"
        place = case.point.keras_path if case.point.in_layer else f"the attention {case.where_keras}"
        if operation.get("attn_mask") is None:
            yield Hypothesis(
                cause=cause,
                fix=f"is_causal={not is_causal}  # {case.place(operation)}",
                keras=f"use_causal_mask={is_causal}  # {place}",
                changes={operation.key: with_arguments(is_causal=not is_causal)},
            )


def _scale(case: Case) -> Iterator[Hypothesis]:
    for operation in case.operations_named(_SCALED):
        *_, width = operation.get("query")
        heads = operation.get("query")[1] if len(operation.get("query")) == 4 else 1
        torch_scale = operation.get("scale") or width**-0.5
        for formula, scale in (
            ("1", 1.0),
            ("1 / sqrt(all heads' width)", (width * heads) ** -0.5),
            ("1 / width", 1 / width),
            ("sqrt(width)", width**0.5),
        ):
            if scale != torch_scale:
                yield Hypothesis(
                    cause=f"the scores are multiplied by {torch_scale:.6g} in torch and by {formula} in Keras",
                    fix=f"scale={scale!r}  # {case.place(operation)}",
                    keras=f"# {case.where_keras}: multiply the scores by {torch_scale!r}",
                    changes={operation.key: with_arguments(scale=scale)},
                )


def _heads(case: Case) -> Iterator[Hypothesis]:
    for operation in case.operations_named(_SCALED):
        if len(operation.get("query")) == 4:
            yield Hypothesis(
                cause=HEADS_SPLIT_OTHERWISE,
                fix=split_and_merged(case.place(operation)),
                keras=f"# {case.where_keras}: split the features into (heads, width), as torch does",
                changes={operation.key: _split_width_first},
            )
    for operation in case.operations_named(_PACKED):
        yield Hypothesis(
            cause=HEADS_SPLIT_OTHERWISE,
            fix=_align_again(case, "heads with widths"),
            changes={operation.key: _packed_width_first},
        )


def _split_width_first(call: TorchCall) -> Any:
    def width_first(tensor: Any) -> Any:
        batch, heads, steps, width = tensor.shape
        merged = tensor.transpose(1, 2).reshape(batch, steps, heads * width)
        return merged.reshape(batch, steps, width, heads).permute(0, 3, 1, 2)

    attended = call.run(**{name: width_first(call.get(name)) for name in _ROLES})
    batch, heads, steps, width = attended.shape
    merged = attended.permute(0, 2, 3, 1).reshape(batch, steps, width * heads)
    return merged.reshape(batch, steps, heads, width).transpose(1, 2)


def _packed_width_first(call: TorchCall) -> Any:
    heads = call.get("num_heads")

    def width_first(packed: Any) -> Any:
        parts = [part.unflatten(0, (-1, heads)).transpose(0, 1).flatten(0, 1) for part in packed.chunk(3)]
        return torch.cat(parts)

    names = [name for name in ("in_proj_weight", "in_proj_bias") if call.get(name) is not None]
    out = call.get("out_proj_weight")
    out = out.unflatten(1, (-1, heads)).transpose(1, 2).flatten(1, 2)
    return call.run(**{name: width_first(call.get(name)) for name in names}, out_proj_weight=out)


def _without_bias(case: Case) -> Iterator[Hypothesis]:
    def without_bias(call: TorchCall) -> Any:
        return call.run(in_proj_bias=torch.zeros_like(call.get("in_proj_bias")))

    for operation in case.operations_named(_PACKED):
        if operation.get("in_proj_bias") is not None:
            yield Hypothesis(
                cause="Keras adds no bias to query, key and value, torch does",
                keras=f"use_bias=True  # {case.point.keras_path}",
                changes={operation.key: without_bias},
            )


SUSPECTS = (
    Suspect("query, key and value swapped", _swapped),
    Suspect("mask inverted or missing", _mask),
    Suspect("causal on one side only", _causal),
    Suspect("scale of the scores", _scale),
    Suspect("heads split in another order", _heads),
    Suspect("bias of attention missing", _without_bias),
)
