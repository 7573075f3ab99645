"""Propose as a cause that only one side masks padded steps: in a mean, in a recurrent layer, in attention.

The mask of Keras is the one that its layers received in the run; it may come from an Embedding, a Masking layer or the
caller. The mask of torch is the result of a comparison in its forward pass.
"""

from collections.abc import Callable, Iterator
from typing import Any

import torch

from keras3conv.frameworks.torch.calls import Operation, TorchCall
from keras3conv.transforms import Array
from keras3conv.validators.diagnosis.suspects.base import Case, Hypothesis, Suspect, replaced_by

_RECURRENT = ("lstm", "gru", "rnn_tanh", "rnn_relu")
_STATES_OF_LSTM = 2


def _reduction(case: Case) -> Iterator[Hypothesis]:
    """Yield hypotheses that Keras leaves the masked steps out of a mean or a sum."""
    for path, mask in case.keras.masks.items():
        for operation in case.operations_named("mean", "sum", "adaptive_avg_pool1d"):
            axis = _reduced_axis(operation)
            shape = operation.get("input")
            if axis is not None and (shape[0], shape[axis]) == mask.shape:
                weights = ".unsqueeze(-1)" if axis == 1 and len(shape) == 3 else ""
                line = f"x = (x * mask{weights}).sum({axis})"
                line += f" / mask.sum(1{', keepdim=True' if len(shape) > 2 else ''})" if operation.name != "sum" else ""
                yield Hypothesis(
                    cause=f"{_masked(path)} out of the {_reduction_name(operation)}, torch does not",
                    fix=f"{line}  # {case.place_in_words(operation)}, with mask: True at real steps",
                    keras=case.keras.without_masks,
                    changes={operation.key: replaced_by(_without_masked_steps, axis, mask)},
                )


def _masked(path: str) -> str:
    return f"Keras leaves the steps that are masked as padding in {path}"


def _reduction_name(operation: Operation) -> str:
    return "sum" if operation.name == "sum" else "mean"


def _reduced_axis(operation: Operation) -> int | None:
    """Return the single axis that an operation reduces; None if it reduces several."""
    shape = operation.get("input")
    if not isinstance(shape, tuple) or len(shape) < 2:
        return None
    if operation.name == "adaptive_avg_pool1d":
        return len(shape) - 1
    axis = operation.get("dim")
    axis = axis[0] if isinstance(axis, list) and len(axis) == 1 else axis
    return axis % len(shape) if isinstance(axis, int) and not isinstance(axis, bool) else None


def _without_masked_steps(call: TorchCall, axis: int, mask: Array) -> Any:
    values = call.get("input")
    shape = [len(mask), *[1] * (values.ndim - 1)]
    shape[axis] = mask.shape[1]
    weights = torch.as_tensor(mask, device=values.device).reshape(shape).to(values.dtype)
    result = call.run(input=values * weights)
    if call.name == "sum":
        return result
    return result * (mask.shape[1] / weights.sum(axis, keepdim=result.ndim == values.ndim))


def _recurrent(case: Case) -> Iterator[Hypothesis]:
    """Yield hypotheses that a recurrent layer of Keras keeps its state at masked steps."""
    for path, mask in case.keras.masks.items():
        for operation in case.operations_named(*_RECURRENT):
            shape = operation.get("input")
            is_first = bool(operation.get("batch_first"))
            if len(shape) == 3 and (shape[:2] if is_first else shape[1::-1]) == mask.shape:
                for after, zeros in (("repeats its output", False), ("returns zeros", True)):
                    yield Hypothesis(
                        cause=f"Keras skips the steps that are masked as padding in {path}, and {after} there; torch "
                        "does not",
                        fix=_packed(operation),
                        keras=case.keras.without_masks,
                        changes={operation.key: replaced_by(_skipping, mask, zeros)},
                    )


def _packed(operation: Operation) -> str:
    """Return the statements that call a recurrent torch layer with packed sequences, in the place of its call."""
    layer, is_first = f"self.{operation.owner}", bool(operation.get("batch_first"))
    sequence = f"packed = nn.utils.rnn.pack_padded_sequence(x, mask.sum(1).clamp(min=1), batch_first={is_first}"
    steps = f"x, _ = nn.utils.rnn.pad_packed_sequence(packed, batch_first={is_first}, total_length=x.shape"
    return (
        f"{sequence}, enforce_sorted=False); packed, states = {layer}(packed); {steps}[{int(is_first)}])"
        f"  # instead of x, states = {layer}(x), with mask: True at real steps, which come first"
    )


def _skipping(call: TorchCall, mask: Array, zeros: bool) -> Any:
    """Return the outputs and the last states of a recurrent torch function in which masked steps keep the state.

    Args:
        call: The call of the function, such as `lstm`.
        mask: Shape (batch, steps): False where a step is masked.
        zeros: Whether the output of a masked step is zero; otherwise it is the output of the step before.
    """
    values, is_first = call.get("input"), bool(call.get("batch_first"))
    steps = values.transpose(0, 1) if is_first else values
    keep = torch.as_tensor(mask, device=values.device).T[..., None]
    given = call.get("hx")
    states = list(given) if isinstance(given, list | tuple) else [given]
    size, params = 4 if call.get("has_biases") else 2, list(call.get("params"))
    directions = 2 if call.get("bidirectional") else 1
    last: list[list[Any]] = [[] for _ in states]
    for layer in range(call.get("num_layers")):
        outputs = []
        for direction in range(directions):
            index = layer * directions + direction
            own = params[index * size : (index + 1) * size]
            first = [state[index : index + 1] for state in states]
            order = range(len(steps)) if direction == 0 else range(len(steps) - 1, -1, -1)
            made, ended = _one_direction(call, steps, keep, first, own, order, zeros)
            outputs.append(made)
            for place, state in enumerate(ended):
                last[place].append(state)
        steps = torch.cat(outputs, -1)
    final = [torch.cat(entries) for entries in last]
    return (steps.transpose(0, 1) if is_first else steps, *final)


def _one_direction(
    call: TorchCall, steps: Any, keep: Any, states: list[Any], params: list[Any], order: range, zeros: bool
) -> tuple[Any, list[Any]]:
    """Return the outputs of one recurrent layer in one direction, in the order of the steps, and its last states.

    Args:
        call: The call of the recurrent torch function.
        steps: The inputs of the layer, shape (steps, batch, features).
        keep: Shape (steps, batch, 1): False where a step is masked.
        states: The first states.
        params: The parameters of the layer in this direction.
        order: The indices of the steps, from the last to the first in the backward direction.
        zeros: Whether the output of a masked step is zero; otherwise it is the output of the step before.
    """
    outputs: list[Any] = [None] * len(steps)
    output = torch.zeros_like(states[0][0])
    for step in order:
        is_lstm = len(states) == _STATES_OF_LSTM
        made, *new = call.run(
            input=steps[step : step + 1],
            hx=tuple(states) if is_lstm else states[0],
            params=params,
            num_layers=1,
            bidirectional=False,
            batch_first=False,
        )
        states = [torch.where(keep[step], after, before) for after, before in zip(new, states, strict=True)]
        output = torch.where(keep[step], made[0], torch.zeros_like(output) if zeros else output)
        outputs[step] = output
    return torch.stack(outputs), states


def _attention(case: Case) -> Iterator[Hypothesis]:
    """Yield hypotheses that attention in Keras ignores the keys of masked steps, or their keys and queries."""
    for path, mask in case.keras.masks.items():
        for name, change in _MASKED_ATTENTION.items():
            for operation in case.operations_named(name):
                for queries in (True, False):
                    yield Hypothesis(
                        cause=f"attention in Keras ignores the steps that are masked as padding in {path}, torch's "
                        "does not",
                        fix=f"# {case.place_in_words(operation)}: mask the padded keys (key_padding_mask=~mask)",
                        keras=case.keras.without_masks,
                        changes={operation.key: replaced_by(change, mask, queries)},
                    )


def _attended(mask: Array, rank: int, queries: bool) -> Any:
    """Return a boolean array, broadcast over the heads, that is True where a query attends to a key.

    Args:
        mask: Shape (batch, steps): False where a step is masked.
        rank: The number of axes of the attention scores, such as 4 for (batch, heads, queries, keys).
        queries: Whether masked steps are left out as queries, too, and not only as keys.
    """
    keys = torch.as_tensor(mask)
    both = keys[:, None, :] & keys[:, :, None] if queries else keys[:, None, :].expand(-1, keys.shape[1], -1)
    return both.reshape(len(mask), *[1] * (rank - 3), *both.shape[1:])


def _softmax(call: TorchCall, mask: Array, queries: bool) -> Any:
    scores = call.get("input")
    if scores.ndim < 3 or (len(scores), scores.shape[-1]) != mask.shape:
        return call.run()
    attended = _attended(mask, scores.ndim, queries and scores.shape[-2] == mask.shape[1]).to(scores.device)
    return call.run(input=scores.masked_fill(~attended, torch.finfo(scores.dtype).min))


def _scaled(call: TorchCall, mask: Array, queries: bool) -> Any:
    query = call.get("query")
    attended = _attended(mask, query.ndim, queries).to(query.device)
    least = torch.finfo(query.dtype).min / 2
    return call.run(attn_mask=torch.zeros(attended.shape, dtype=query.dtype).masked_fill(~attended, least))


def _multi_head(call: TorchCall, mask: Array, queries: bool) -> Any:
    query, heads = call.get("query"), call.get("num_heads")
    attended = _attended(mask, 3, queries).to(query.device).repeat_interleave(heads, 0)
    least = torch.finfo(query.dtype).min / 2
    blocked = torch.zeros(attended.shape, dtype=query.dtype).masked_fill(~attended, least)
    return call.run(attn_mask=blocked, is_causal=False)


_MASKED_ATTENTION: dict[str, Callable[..., Any]] = {
    "softmax": _softmax,
    "scaled_dot_product_attention": _scaled,
    "multi_head_attention_forward": _multi_head,
}

_COMPARISONS = {
    "ne": "not_equal",
    "eq": "equal",
    "gt": "greater",
    "ge": "greater_equal",
    "lt": "less",
    "le": "less_equal",
}
"""The comparisons from which torch code makes a mask, with the names of the same comparisons in Keras."""


def _own_mask(case: Case) -> Iterator[Hypothesis]:
    """Yield hypotheses that torch computes a mask of time steps by a comparison (`x != 0`), and Keras has no mask.

    In Keras, either no layer makes the mask, or a layer does not pass it on.
    """
    for operation in case.operations_named(*_COMPARISONS, *(f"__{name}__" for name in _COMPARISONS)):
        shape, limit = operation.get("input"), operation.get("dim")
        if not isinstance(shape, tuple) or len(shape) < 2 or not isinstance(limit, int | float):
            continue
        function = _COMPARISONS[operation.name.strip("_")]
        for keeps in (True, False):
            yield Hypothesis(
                cause=f"torch masks steps by {operation.name.strip('_')}(x, {limit}) {case.where}, Keras masks none",
                fix=f"mask = torch.full_like(mask, {keeps})  # {case.place_in_words(operation)}",
                keras=f"mask = keras.ops.{function}(x, {limit})  # {case.where_keras}, to mask what torch masks",
                changes={operation.key: replaced_by(_always, keeps)},
            )


def _always(call: TorchCall, keeps: bool) -> Any:
    return torch.full_like(call.run(), keeps)


SUSPECTS = (
    Suspect("masked steps in a mean or a sum", _reduction),
    Suspect("masked steps in a recurrent layer", _recurrent),
    Suspect("masked steps in attention", _attention),
    Suspect("masked steps in torch only", _own_mask),
)
