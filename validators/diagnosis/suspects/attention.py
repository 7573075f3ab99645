"""Attention: query and key in each other's place, a mask that says the opposite, another scale, heads cut otherwise."""

from collections.abc import Iterator
from typing import Any

import torch

from keras3conv.frameworks.torch.replay import Operation, TorchCall
from keras3conv.validators.diagnosis.suspects.base import Case, Suspect, Suspicion, doing, running

_SCALED = "scaled_dot_product_attention"
_PACKED = "multi_head_attention_forward"
_ROLES = ("query", "key", "value")


def _swapped(case: Case) -> Iterator[Suspicion]:
    for first, second in ((0, 1), (0, 2), (1, 2)):
        ours, theirs = _ROLES[first], _ROLES[second]
        cause, fix = f"{ours} and {theirs} are swapped", _pair_again(case, f"{ours} with {theirs}")
        for operation in case.named(_SCALED):
            if operation.get(ours) == operation.get(theirs):
                yield Suspicion(
                    cause=cause,
                    fix=fix,
                    changes={operation.key: doing(_exchanged, ours, theirs)},
                )
        for operation in case.named(_PACKED):
            yield Suspicion(
                cause=cause,
                fix=fix,
                changes={operation.key: doing(_packed_swap, first, second)},
            )


def _exchanged(call: TorchCall, first: str, second: str) -> Any:
    return call.run(**{first: call.get(second), second: call.get(first)})


def _pair_again(case: Case, wrong: str) -> str:
    return f"plan = k3c.align(torch, keras, inputs=x)  # what {case.keras_path or case.where} is given pairs {wrong}"


def _packed_swap(call: TorchCall, first: int, second: int) -> Any:
    order = [0, 1, 2]
    order[first], order[second] = second, first
    changed = {}
    for name in ("in_proj_weight", "in_proj_bias"):
        if (packed := call.get(name)) is not None:
            changed[name] = torch.cat([packed.chunk(3)[place] for place in order])
    return call.run(**changed)


def _mask(case: Case) -> Iterator[Suspicion]:
    """In a boolean mask torch's attention module says True for what is masked, Keras for what is attended to."""
    for operation in case.named(_SCALED, _PACKED):
        for name in ("attn_mask", "key_padding_mask"):
            if operation.get(name) is not None:
                true = "attends" if operation.name == _SCALED else "masks"
                yield Suspicion(
                    cause=f"the mask is inverted: True {true} in torch, and does the opposite in Keras",
                    fix=f"{name} = ~{name}  # {operation.owner or case.where}",
                    changes={operation.key: doing(_with_inverted, name)},
                )
                yield Suspicion(
                    cause="Keras attends without the mask",
                    fix=f"attention_mask={name}  # {case.keras_path or case.where_keras}",
                    changes={operation.key: running(**{name: None})},
                )
    for operation in case.named("masked_fill", "where"):
        name = "mask" if operation.name == "masked_fill" else "condition"
        yield Suspicion(
            cause="the mask is inverted: what is left out in torch is kept in Keras",
            fix=f"{name} = ~{name}  # {operation.owner or case.where}",
            changes={operation.key: doing(_with_inverted, name)},
        )


def _with_inverted(call: TorchCall, name: str) -> Any:
    return call.run(**{name: _inverted(call.get(name))})


def _inverted(mask: Any) -> Any:
    return ~mask if mask.dtype == torch.bool else torch.where(mask < 0, 0.0, float("-inf")).to(mask.dtype)


def _causal(case: Case) -> Iterator[Suspicion]:
    for operation in case.named(_SCALED):
        ours = bool(operation.get("is_causal", False))
        if operation.get("attn_mask") is None:
            yield Suspicion(
                cause=f"attention is {'' if ours else 'not '}causal in torch, and is {'not ' if ours else ''}in Keras",
                fix=f"is_causal={not ours}  # {operation.owner or case.where}",
                changes={operation.key: running(is_causal=not ours)},
            )


def _scale(case: Case) -> Iterator[Suspicion]:
    for operation in case.named(_SCALED):
        *_, width = operation.get("query")
        heads = operation.get("query")[1] if len(operation.get("query")) == 4 else 1
        ours = operation.get("scale") or width**-0.5
        for told, scale in (
            ("1", 1.0),
            ("1 / sqrt(all heads' width)", (width * heads) ** -0.5),
            ("1 / width", 1 / width),
            ("sqrt(width)", width**0.5),
        ):
            if scale != ours:
                yield Suspicion(
                    cause=f"the scores are multiplied by {ours:.6g} in torch and by {told} in Keras",
                    fix=f"scale={scale!r}  # {operation.owner or case.where}",
                    changes={operation.key: running(scale=scale)},
                )


def _heads(case: Case) -> Iterator[Suspicion]:
    for operation in case.named(_SCALED):
        if len(operation.get("query")) == 4:
            yield Suspicion(
                cause="the heads are cut otherwise: torch has (heads, width) along the features, Keras (width, heads)",
                fix=f"x.unflatten(-1, (-1, heads)).transpose(-1, -2)  # {operation.owner or case.where}",
                changes={operation.key: _cut_otherwise},
            )
    for operation in case.named(_PACKED):
        yield Suspicion(
            cause="the heads are cut otherwise: torch has (heads, width) along the features, Keras (width, heads)",
            fix=_pair_again(case, "heads with widths"),
            changes={operation.key: _rows_otherwise},
        )


def _cut_otherwise(call: TorchCall) -> Any:
    def other(tensor: Any) -> Any:
        batch, heads, steps, width = tensor.shape
        merged = tensor.transpose(1, 2).reshape(batch, steps, heads * width)
        return merged.reshape(batch, steps, width, heads).permute(0, 3, 1, 2)

    found = call.run(**{name: other(call.get(name)) for name in _ROLES})
    batch, heads, steps, width = found.shape
    merged = found.permute(0, 2, 3, 1).reshape(batch, steps, width * heads)
    return merged.reshape(batch, steps, heads, width).transpose(1, 2)


def _rows_otherwise(call: TorchCall) -> Any:
    heads = call.get("num_heads")

    def other(packed: Any) -> Any:
        parts = [part.unflatten(0, (-1, heads)).transpose(0, 1).flatten(0, 1) for part in packed.chunk(3)]
        return torch.cat(parts)

    names = [name for name in ("in_proj_weight", "in_proj_bias") if call.get(name) is not None]
    out = call.get("out_proj_weight")
    out = out.unflatten(1, (-1, heads)).transpose(1, 2).flatten(1, 2)
    return call.run(**{name: other(call.get(name)) for name in names}, out_proj_weight=out)


def _without_bias(case: Case) -> Iterator[Suspicion]:
    def dropped(call: TorchCall) -> Any:
        return call.run(in_proj_bias=torch.zeros_like(call.get("in_proj_bias")))

    operations: Iterator[Operation] = case.named(_PACKED)
    for operation in operations:
        if operation.get("in_proj_bias") is not None:
            yield Suspicion(
                cause="Keras adds no bias to query, key and value, torch does",
                fix=f"use_bias=True  # {case.keras_path}",
                changes={operation.key: dropped},
            )


SUSPECTS = (
    Suspect("query, key and value swapped", _swapped),
    Suspect("mask inverted or left out", _mask),
    Suspect("causal or not", _causal),
    Suspect("scale of the scores", _scale),
    Suspect("heads cut otherwise", _heads),
    Suspect("bias of attention lost", _without_bias),
)
