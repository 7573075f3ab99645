"""A torch module is run again with one thing changed: what would it have computed then?

Every function of torch that a module calls is seen by a function mode, in an order that is the same in every run. So
"the third convolution, padded otherwise" is a key to one of them, and a change of what is called there. What the module
that is looked at is given counts as one call more, of `given`: it can be changed where torch computes nothing before.
"""

import copy
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from keras3conv.errors import ModelError
from keras3conv.frameworks.shared.recording import flatten
from keras3conv.frameworks.torch import module as torch_side
from keras3conv.transforms import Array, Arrays, Shape

__all__ = ["run_with"]


_POOLING = ("input", "kernel_size", "stride", "padding")


_CONVOLUTION = ("input", "weight", "bias", "stride", "padding", "dilation", "groups")


_TRANSPOSED = ("input", "weight", "bias", "stride", "padding", "output_padding", "groups", "dilation")


_RECURRENT = ("input", "hx", "params", "has_biases", "num_layers", "dropout", "train", "bidirectional", "batch_first")


_PARAMETERS: Mapping[str, tuple[str, ...]] = {
    **{f"conv{rank}d": _CONVOLUTION for rank in (1, 2, 3)},
    **{f"conv_transpose{rank}d": _TRANSPOSED for rank in (1, 2, 3)},
    **{f"avg_pool{rank}d": (*_POOLING, "ceil_mode", "count_include_pad", "divisor_override") for rank in (1, 2, 3)},
    **{f"max_pool{rank}d": (*_POOLING, "dilation", "ceil_mode", "return_indices") for rank in (1, 2, 3)},
    **dict.fromkeys(("lstm", "gru", "rnn_tanh", "rnn_relu"), _RECURRENT),
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
"""What torch calls the positional arguments of its functions; of the rest the first is the input, the second `dim`."""


_OTHER = ("input", "dim")


GIVEN = "given"
"""The name of the call by which the module that is looked at gets its first floating-point input."""


@dataclass(frozen=True)
class TorchCall:
    """A call of one of torch's functions, with its arguments by name."""

    function: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]

    @property
    def name(self) -> str:
        """The function's name, without the mark of an in-place one: "relu" for `relu_` as well."""
        name = str(getattr(self.function, "__name__", ""))
        return name if name.endswith("__") else name.removesuffix("_")

    def get(self, name: str, default: Any = None) -> Any:
        """An argument, or the default where the call left it out."""
        names = _PARAMETERS.get(self.name, _OTHER)
        place = names.index(name) if name in names else len(self.args)
        return self.args[place] if place < len(self.args) else self.kwargs.get(name, default)

    def run(self, **changed: Any) -> Any:
        """What the function returns, with some arguments changed."""
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
"""What is computed in the place of a call."""


Key = tuple[str, str, int]
"""Which call it is: of which module, of which function, and the how-manieth of these.

It is the same in every run, in either dtype, where a count over all calls is not: modules look things up differently.
"""


@dataclass(frozen=True, kw_only=True)
class Operation:
    """One call in a run, without its values.

    Attributes:
        key: Which call it is.
        place: The how-manieth of all calls in this run it is.
        name: The name of the function.
        owner: The path of the innermost module that calls it.
        arguments: Its arguments by name; of a tensor the shape.
        result: The shape of what it returned; None if that was no floating-point tensor.
        parts: How many tensors of one shape it returned, if it returned several; else 0.
    """

    key: Key
    place: int
    name: str
    owner: str
    arguments: Mapping[str, Any]
    result: Shape | None
    parts: int = 0

    def get(self, name: str, default: Any = None) -> Any:
        """An argument, or the default where the call left it out."""
        return self.arguments.get(name, default)


@dataclass(frozen=True, kw_only=True)
class Target:
    """Where a replay looks: at one call of a module, or, without a path, at what the whole module returns."""

    path: str | None = None
    call: int = 0


@dataclass(kw_only=True)
class Replayed:
    """What a replay saw.

    Attributes:
        inputs: The arrays that the target was called with.
        outputs: The arrays that it returned.
        operations: Every call of a function, in order; empty unless it was asked for.
        began: The place of the first operation of the target.
        ended: By module, the places at which its calls ended, before the target began.
    """

    inputs: tuple[Array, ...] = ()
    outputs: tuple[Array, ...] = ()
    operations: list[Operation] = field(default_factory=list)
    began: int = 0
    ended: dict[str, int] = field(default_factory=dict)


class _Reached(Exception):
    pass


@dataclass(frozen=True, kw_only=True)
class Stage:
    """What is run: the module, what it is called with, and with which tensors, by path; None for its own."""

    module: nn.Module
    inputs: Any
    tensors: Mapping[str, Array] | None = None

    def replay(
        self,
        target: Target,
        *,
        changes: Mapping[Key, Change] | None = None,
        tensors: Mapping[str, Array] | None = None,
        float64: bool = True,
        listing: bool = False,
    ) -> Replayed:
        """Runs the module as far as the target, in evaluation mode.

        Args:
            target: Where to look.
            changes: What is computed in the place of an operation, by the operation's key.
            tensors: Values in the place of those of the stage, by path.
            float64: Whether it runs in float64.
            listing: Whether the operations are listed.

        Raises:
            ModelError: The module raised, or the target was not reached.
        """
        seen = _Run(target=target, changes=changes or {}, listing=listing)
        given = {**(self.tensors or {}), **(tensors or {})}
        with ExitStack() as contexts:
            contexts.enter_context(torch_side.precise())
            contexts.enter_context(seen.watching(self.module))
            contexts.enter_context(_Watch(seen))
            try:
                recording = torch_side.run(self.module, self.inputs, tensors=given, float64=float64)
            except _Reached:
                return seen.replayed
        if target.path is not None:
            raise ModelError(f"{target.path} was not called {target.call + 1} times")
        seen.replayed.outputs = tuple(recording.outputs.values())
        seen.replayed.began = seen.place
        return seen.replayed


class _Run:
    """The state of a replay that is going on."""

    def __init__(self, *, target: Target, changes: Mapping[Key, Change], listing: bool) -> None:
        self.target, self.changes, self.listing = target, changes, listing
        self.replayed = Replayed()
        self.place = 0
        self.times: Counter[tuple[str, str]] = Counter()
        self.stack: list[str] = []
        self.calls = 0

    @contextmanager
    def watching(self, module: nn.Module) -> Iterator[None]:
        """Follows for a while which module is running."""
        handles = []
        for path, child in module.named_modules():
            handles.append(child.register_forward_pre_hook(self._before(path), with_kwargs=True))
            handles.append(child.register_forward_hook(self._after(path), with_kwargs=True))
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _before(self, path: str) -> Callable[..., None]:
        def hook(_: nn.Module, args: Any, kwargs: Any) -> Any:
            given = None
            if path == self.target.path:
                self.calls += 1
                if self.calls == self.target.call + 1:
                    given = self._given(args), kwargs
                    self.replayed.inputs = _arrays(given)
                    self.replayed.began = self.place
            self.stack.append(path)
            return given

        return hook

    def _given(self, args: tuple[Any, ...]) -> tuple[Any, ...]:
        """The arguments of the target, the first of which may be changed."""
        if not args or not _is_float(args[0]):
            return args
        return (self._noted(TorchCall(_itself, args[:1], {}), ""), *args[1:])

    def _after(self, path: str) -> Callable[..., None]:
        def hook(_: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
            self.stack.pop()
            if path == self.target.path and self.calls == self.target.call + 1:
                self.replayed.outputs = _arrays(output)
                raise _Reached
            self.replayed.ended[path] = self.place

        return hook

    def call(self, call: TorchCall) -> Any:
        """Runs one function, or what stands in its place, and takes note of it."""
        return self._noted(call, self.stack[-1]) if self.stack else call.run()

    def _noted(self, call: TorchCall, owner: str) -> Any:
        place, self.place = self.place, self.place + 1
        name = call.name
        key = (owner, name, self.times[owner, name])
        self.times[owner, name] += 1
        result = self.changes[key](call) if key in self.changes else call.run()
        if self.listing:
            self.replayed.operations.append(
                Operation(
                    key=key,
                    place=place,
                    name=name,
                    owner=owner,
                    arguments=_shapes(call),
                    result=tuple(result.shape) if _is_float(result) else None,
                    parts=_parts(result),
                )
            )
        return result


def _itself(value: Any) -> Any:
    return value


_itself.__name__ = GIVEN


class _Watch(TorchFunctionMode):
    def __init__(self, run: _Run) -> None:
        super().__init__()
        self.run = run

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return self.run.call(TorchCall(func, args, kwargs or {}))


def _shapes(call: TorchCall) -> dict[str, Any]:
    names = _PARAMETERS.get(call.name, _OTHER)
    named = dict(zip(names, call.args, strict=False)) | dict(call.kwargs)
    return {name: _shape_or_value(value) for name, value in named.items()}


def _shape_or_value(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return tuple(value.shape)
    if isinstance(value, list | tuple):
        return [_shape_or_value(item) for item in value]
    return value


def _is_float(value: Any) -> bool:
    return isinstance(value, torch.Tensor) and value.is_floating_point()


def _parts(result: Any) -> int:
    several = isinstance(result, list | tuple) and all(map(_is_float, result))
    return len(result) if several and len({part.shape for part in result}) == 1 else 0


def _arrays(value: Any) -> tuple[Array, ...]:
    """Copies, made out of sight of every function mode."""
    with torch._C.DisableTorchFunction():
        tensors = [tensor for _, tensor in flatten(value, lambda item: isinstance(item, torch.Tensor))]
        return tuple(torch_side.to_numpy(tensor).copy() for tensor in tensors)


def run_with(
    model: nn.Module, path: str, attributes: Mapping[str, Any], inputs: Arrays, tensors: Mapping[str, Array]
) -> Arrays | None:
    """Runs one module of a model in float64 with other attributes; the module itself stays as it is.

    Args:
        model: The model.
        path: The path of the module.
        attributes: The attributes to run with, in the place of its own.
        inputs: What it is called with: positional arguments.
        tensors: Values of the model's tensors by their paths; those of this module are taken.

    Returns:
        What it returned, flat; None if it cannot run so.
    """
    module = copy.copy(model.get_submodule(path))
    for shared in ("_parameters", "_buffers", "_modules"):  # what is set on the copy must not reach the module
        object.__setattr__(module, shared, getattr(module, shared).copy())
    own = {name.removeprefix(f"{path}."): array for name, array in tensors.items() if name.startswith(f"{path}.")}
    try:
        for name, value in attributes.items():
            setattr(module, name, value)
        recording = torch_side.run(module, inputs, tensors=own, float64=True, watch=False)
    except (ModelError, TypeError, AttributeError):  # no value for this attribute, or none that the module runs with
        return None
    return tuple(recording.outputs.values())
