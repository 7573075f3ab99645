"""Describe calls of torch functions: the arguments by name, and a key that identifies the call in every run."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from keras3conv.transforms import Shape

_POOLING = ("input", "kernel_size", "stride", "padding")

_CONVOLUTION = ("input", "weight", "bias", "stride", "padding", "dilation", "groups")

_TRANSPOSED = ("input", "weight", "bias", "stride", "padding", "output_padding", "groups", "dilation")

_RECURRENT = ("input", "hx", "params", "has_biases", "num_layers", "dropout", "train", "bidirectional", "batch_first")

_RECURRENT_FUNCTIONS = ("lstm", "gru", "rnn_tanh", "rnn_relu")

_PACKED = ("input", "batch_sizes", "hx", "params", "has_biases", "num_layers", "dropout", "train", "bidirectional")

_PACKED_PARAMS = _PACKED.index("params")

_PARAMETERS: Mapping[str, tuple[str, ...]] = {
    **{f"conv{rank}d": _CONVOLUTION for rank in (1, 2, 3)},
    **{f"conv_transpose{rank}d": _TRANSPOSED for rank in (1, 2, 3)},
    **{f"avg_pool{rank}d": (*_POOLING, "ceil_mode", "count_include_pad", "divisor_override") for rank in (1, 2, 3)},
    **{f"max_pool{rank}d": (*_POOLING, "dilation", "ceil_mode", "return_indices") for rank in (1, 2, 3)},
    **dict.fromkeys(_RECURRENT_FUNCTIONS, _RECURRENT),
    **{f"packed_{name}": _PACKED for name in _RECURRENT_FUNCTIONS},
    "batch_norm": ("input", "running_mean", "running_var", "weight", "bias", "training", "momentum", "eps"),
    "cat": ("tensors", "dim"),
    "elu": ("input", "alpha"),
    "embedding": ("input", "weight", "padding_idx"),
    "flatten": ("input", "start_dim", "end_dim"),
    "gelu": ("input", "approximate"),
    "group_norm": ("input", "num_groups", "weight", "bias", "eps"),
    "instance_norm": ("input", "running_mean", "running_var", "weight", "bias", "use_input_stats", "momentum", "eps"),
    "interpolate": ("input", "size", "scale_factor", "mode", "align_corners", "recompute_scale_factor", "antialias"),
    "layer_norm": ("input", "normalized_shape", "weight", "bias", "eps"),
    "leaky_relu": ("input", "negative_slope"),
    "linear": ("input", "weight", "bias"),
    "masked_fill": ("input", "mask", "value"),
    "multi_head_attention_forward": (
        *("query", "key", "value", "embed_dim_to_check", "num_heads", "in_proj_weight", "in_proj_bias"),
        *("bias_k", "bias_v", "add_zero_attn", "dropout_p", "out_proj_weight", "out_proj_bias"),
    ),
    "normalize": ("input", "p", "dim", "eps"),
    "pad": ("input", "pad", "mode", "value"),
    "pixel_shuffle": ("input", "upscale_factor"),
    "repeat_interleave": ("input", "repeats", "dim"),
    "rms_norm": ("input", "normalized_shape", "weight", "eps"),
    "roll": ("input", "shifts", "dims"),
    "scaled_dot_product_attention": ("query", "key", "value", "attn_mask", "dropout_p", "is_causal"),
    "chunk": ("input", "chunks", "dim"),
    "split": ("input", "split_size_or_sections", "dim"),
    "select": ("input", "dim", "index"),
    "where": ("condition", "input", "other"),
}
"""The names of the positional arguments of some torch functions; those of all others are "input" and "dim"."""

_OTHER = ("input", "dim")


@dataclass(frozen=True)
class TorchCall:
    """A call of a torch function, with its arguments by name."""

    function: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]

    @property
    def name(self) -> str:
        """Return the name of the function without the underscore of in-place functions: "relu" for `relu_` as well.

        A recurrent function has other arguments for a packed sequence, and so another name, such as "packed_lstm".
        """
        name = str(getattr(self.function, "__name__", ""))
        if name in _RECURRENT_FUNCTIONS and len(self.args) > _PACKED_PARAMS:
            is_packed = isinstance(self.args[_PACKED_PARAMS], list | tuple)
            return f"packed_{name}" if is_packed else name
        return name if name.endswith("__") else name.removesuffix("_")

    def get(self, name: str, default: Any = None) -> Any:
        """Return an argument of the call by name, or the default if the call does not have it."""
        names = _PARAMETERS.get(self.name, _OTHER)
        place = names.index(name) if name in names else len(self.args)
        return self.args[place] if place < len(self.args) else self.kwargs.get(name, default)

    def run(self, **changed: Any) -> Any:
        """Return the result of the function with changed arguments.

        Args:
            **changed: The new arguments, by name.
        """
        args, kwargs = list(self.args), dict(self.kwargs)
        names = _PARAMETERS.get(self.name, _OTHER)
        for name, value in changed.items():
            place = names.index(name) if name in names else len(args)
            if place < len(args):
                args[place] = value
            else:
                kwargs[name] = value
        return self.function(*args, **kwargs)


Change = Callable[[TorchCall], Any]
"""A function that computes the result of a call instead of the torch function."""


Key = tuple[str, str, int]
"""Identifies a call: the path of the module, the name of the function, and the number of the call of this function.

A key is the same in every run and dtype. A number among all calls would not be: a module may take different branches.
"""


@dataclass(frozen=True, kw_only=True)
class Operation:
    """One call of a torch function in a run, described without the values of its tensors.

    Attributes:
        key: Identifies the call in every run: see `Key`.
        place: The number of the call among all calls of this run.
        name: The name of the function.
        owner: The path of the innermost module that calls it.
        arguments: The arguments by name: tensors as their shapes, NumPy arrays as lists of their sizes. An argument
            without a name is under its index.
        result: The shape of the result; None if it is not a floating-point tensor.
        parts: The number of tensors if the result is several tensors of the same shape; else 0.
    """

    key: Key
    place: int
    name: str
    owner: str
    arguments: Mapping[str, Any]
    result: Shape | None
    parts: int = 0

    def get(self, name: str, default: Any = None) -> Any:
        """Return an argument of the call by name, or the default if the call does not have it."""
        return self.arguments.get(name, default)


def described(call: TorchCall, key: Key, place: int, result: Any) -> Operation:
    """Return the description of a call: shapes in place of the values of its tensors.

    Args:
        call: The call.
        key: Identifies the call in every run.
        place: The number of the call in this run.
        result: What the call returned.
    """
    owner, name, _ = key
    return Operation(
        key=key,
        place=place,
        name=name,
        owner=owner,
        arguments=_shapes(call),
        result=tuple(result.shape) if is_float(result) else None,
        parts=_parts(result),
    )


def _shapes(call: TorchCall) -> dict[str, Any]:
    names = _PARAMETERS.get(call.name, _OTHER)
    named = dict(zip(names, call.args, strict=False)) | dict(call.kwargs)
    named |= {str(place): value for place, value in enumerate(call.args) if place >= len(names)}
    return {name: _shape_or_value(value) for name, value in named.items()}


def _shape_or_value(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return tuple(value.shape)
    if isinstance(value, np.ndarray):  # `==` compares its elements
        return list(value.shape)
    if isinstance(value, list | tuple):
        return [_shape_or_value(item) for item in value]
    return value


def is_float(value: Any) -> bool:
    """Return True if a value is a floating-point tensor."""
    return isinstance(value, torch.Tensor) and value.is_floating_point()


def _parts(result: Any) -> int:
    several = isinstance(result, list | tuple) and all(map(is_float, result))
    return len(result) if several and len({part.shape for part in result}) == 1 else 0
