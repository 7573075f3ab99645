"""PyTorch: a module as a `ModelView`, its runs recorded, its tensors written. All that imports torch for models."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import nn

from keras3conv.errors import InputError, ModelError, Problem, lay_out
from keras3conv.frameworks.follow import Follower
from keras3conv.frameworks.record import Call, Flattened, Recording, flatten, plain
from keras3conv.frameworks.torch_operations import FollowingFlattening
from keras3conv.frameworks.torch_precision import Float64
from keras3conv.model import LayerView, ModelView, TensorRef
from keras3conv.transforms import Array
from keras3conv.transforms_move import copy_into

_EXTENSION_DTYPES = {
    torch.bfloat16: ("bfloat16", torch.int16),
    torch.float8_e4m3fn: ("float8_e4m3fn", torch.int8),
    torch.float8_e5m2: ("float8_e5m2", torch.int8),
}

_LARGE = 1 << 15
"""Elements from which on torch copies with more than one thread."""


def is_module(model: object) -> bool:
    """Whether this is a torch module."""
    return isinstance(model, nn.Module)


def view(module: nn.Module) -> ModelView:
    """Views a module as named tensors, grouped by the module that owns them.

    Raises:
        ModelError: A tensor has no values (a lazy or a meta module), or is of a kind that has no dense values.
    """
    tensors = dict(_named_tensors(module))
    _require_values(module, tensors)
    return ModelView(
        side="torch",
        name=type(module).__name__,
        layers=tuple(_layer_view(path, layer) for path, layer in _named_layers(module)),
        reader=lambda path: to_numpy(tensors[path]),
        facts={"format": "live torch module"},
    )


def write(module: nn.Module, values: Mapping[str, Array]) -> None:
    """Writes values into a module's tensors, all or none: after any exception the module is as it was.

    Args:
        module: The module.
        values: Arrays by the path of the tensor, each of the tensor's shape.
    """
    tensors = dict(_named_tensors(module))
    before: list[tuple[torch.Tensor, torch.Tensor]] = []
    with torch.no_grad():
        try:
            for path, value in values.items():
                target = tensors[path]
                before.append((target, target.detach().clone()))
                _put(target, value)
        except BaseException:  # an interrupt too
            for target, old in before:
                target.copy_(old)
            raise


def _put(target: torch.Tensor, value: Array) -> None:
    """`target.copy_(value)`; torch is slow to copy a large permuted array, and shares the work between threads."""
    here = target.device.type == "cpu" and not target.is_conj() and not target.is_neg()
    if here and value.size > _LARGE and not value.flags.c_contiguous and target.shape == value.shape:
        copy_into(to_numpy(target), value)
        torch.autograd.graph.increment_version(target)
    else:
        target.copy_(to_torch(value))


def run(
    module: nn.Module,
    inputs: object,
    *,
    record: Callable[[str], bool] | None = None,
    tensors: Mapping[str, Array] | None = None,
    float64: bool = False,
    watch: bool = True,
) -> Recording:
    """Runs a module once, in evaluation mode and without gradients, and records what ran.

    Args:
        module: The module; its training flags and tensors are as before afterwards, its buffers too.
        inputs: What it is called with: a tensor or array, a tuple of positional arguments, a dict of keywords.
        record: Of which layers (by path) the arrays are kept. The order of the calls is always kept.
        tensors: Values to run with in the place of its own, by path.
        float64: Whether floating-point tensors, and inputs, are cast to float64 for this run.
        watch: Whether the layers are watched at all; without it the run costs what the module costs.

    Raises:
        ModelError: The module raised; the message names the layer.
    """
    device = next((tensor.device for _, tensor in _named_tensors(module)), torch.device("cpu"))
    args, kwargs = arguments(inputs, device, float64=float64)
    substitutes = running_tensors(module, tensors or {}, float64=float64)
    calls: list[Call] = []
    stack: list[str] = []
    follower = Follower(sees_everything=True)
    watched = _hooks(module, calls, stack, record or (lambda path: False), follower) if watch else nullcontext()
    before = {path: substitutes[path].clone() for path, _ in module.named_buffers() if path in substitutes}
    with torch.no_grad(), evaluating(module), watched, Float64() if float64 else nullcontext():
        try:
            outputs = torch.func.functional_call(module, substitutes, args, kwargs, tie_weights=True, strict=False)
        except (RuntimeError, TypeError, ValueError, IndexError, AttributeError, NotImplementedError) as error:
            raise _call_error(module, stack, args, kwargs, error) from error
    flat = dict(flatten(outputs, lambda value: isinstance(value, torch.Tensor)))
    return Recording(
        calls=tuple(sorted(calls, key=lambda call: call.place)),
        outputs={name: _copy(value) for name, value in flat.items()},
        changed=tuple(path for path, old in before.items() if not _same(old, substitutes[path])),
        flows=follower.flows() if watch else None,
    )


def to_numpy(tensor: torch.Tensor) -> Array:
    """A tensor as an array of the same dtype, sharing memory where it can."""
    tensor = tensor.detach().cpu()
    if tensor.dtype in _EXTENSION_DTYPES:
        import ml_dtypes

        name, storage = _EXTENSION_DTYPES[tensor.dtype]
        bits: Array = tensor.view(storage).numpy()
        return bits.view(getattr(ml_dtypes, name))
    array: Array = tensor.resolve_conj().resolve_neg().numpy()
    return array


def to_torch(array: Array) -> torch.Tensor:
    """An array as a tensor of the same dtype, sharing memory where it can."""
    if not array.flags.writeable:
        array = array.copy()
    for dtype, (name, storage) in _EXTENSION_DTYPES.items():
        if array.dtype.name == name:
            integers = np.ascontiguousarray(array).view(np.dtype(str(storage).removeprefix("torch.")))
            return torch.from_numpy(integers).view(dtype)
    return torch.from_numpy(array)


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Puts a module, and all in it, into evaluation mode for a while; each flag is as before afterwards."""
    flags = [(child, child.training) for child in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for child, training in flags:
            child.training = training


@contextmanager
def precise() -> Iterator[None]:
    """Switches TensorFloat-32 off for a while: alone it is a relative error of 3e-4."""
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = matmul.allow_tf32, cudnn.allow_tf32
    matmul.allow_tf32 = cudnn.allow_tf32 = False
    try:
        yield
    finally:
        matmul.allow_tf32, cudnn.allow_tf32 = before


def inference() -> AbstractContextManager[None]:
    """Without gradients for a while."""
    return torch.no_grad()


def float64_parameter(parameter: torch.Tensor) -> nn.Parameter:
    """A parameter's values in float64, as a parameter of its own."""
    return nn.Parameter(parameter.detach().double(), requires_grad=parameter.requires_grad)


def input_arrays(inputs: object) -> dict[str, Array]:
    """The inputs of a torch module, flat, as arrays: positional ones "0", "1", ..., keywords by name."""
    args, kwargs = arguments(inputs, torch.device("cpu"), float64=False)
    flat = dict(flatten([*args], _is_tensor)) | dict(flatten(kwargs, _is_tensor))
    return {name: to_numpy(value) for name, value in flat.items()}


def call_arguments(module: nn.Module, inputs: object) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """What a module is called with, as tensors on its device: the positional arguments, and the keywords."""
    device = next((tensor.device for _, tensor in _named_tensors(module)), torch.device("cpu"))
    return arguments(inputs, device, float64=False)


def training_modules(module: nn.Module) -> tuple[str, ...]:
    """The paths of the modules that are in training mode."""
    return tuple(path for path, child in module.named_modules() if child.training)


def _is_tensor(value: object) -> bool:
    return isinstance(value, torch.Tensor)


def _named_tensors(module: nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    yield from module.named_parameters(remove_duplicate=False)
    yield from module.named_buffers(remove_duplicate=False)


def _named_layers(module: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Every module, also under a second name; the root only if it owns tensors."""
    for path, child in module.named_modules(remove_duplicate=False):
        if path or any(tensor is not None for tensor in (*child._parameters.values(), *child._buffers.values())):
            yield path, child


def _require_values(module: nn.Module, tensors: Mapping[str, torch.Tensor]) -> None:
    problems = []
    for path, tensor in tensors.items():
        if nn.parameter.is_lazy(tensor):
            problems.append(Problem(torch=path, fact="has no shape yet: call the module once before it is viewed"))
        elif tensor.is_meta:
            problems.append(Problem(torch=path, fact="is on the meta device: it has no values"))
        elif tensor.is_sparse or tensor.is_quantized or tensor.is_nested:
            problems.append(Problem(torch=path, fact=f"is {tensor.layout}, {tensor.dtype}: only dense tensors move"))
    if problems:
        raise ModelError(lay_out(f"{type(module).__name__} (torch) cannot be read", problems))


def _layer_view(path: str, layer: nn.Module) -> LayerView:
    parameters = [(name, tensor) for name, tensor in layer._parameters.items() if tensor is not None]
    buffers = [(name, tensor) for name, tensor in layer._buffers.items() if tensor is not None]
    return LayerView(
        path=path,
        kinds=_kinds(type(layer)),
        config=_config(layer),
        tensors=tuple(_tensor_ref(path, name, tensor) for name, tensor in parameters + buffers),
        attribute=path.rpartition(".")[2],
    )


def _tensor_ref(path: str, name: str, tensor: torch.Tensor) -> TensorRef:
    place = f"{tensor.untyped_storage().data_ptr()}+{tensor.storage_offset()}{tuple(tensor.stride())}"
    return TensorRef(
        path=f"{path}.{name}" if path else name,
        role=name,
        shape=tuple(tensor.shape),
        dtype=str(tensor.dtype).removeprefix("torch."),
        trainable=isinstance(tensor, nn.Parameter),
        storage=place if tensor.numel() else "",
    )


def _kinds(cls: type) -> tuple[str, ...]:
    return tuple(_class_name(base) for base in cls.__mro__ if issubclass(base, nn.Module) and base is not nn.Module)


def _class_name(cls: type) -> str:
    """The qualified name; of a module of our own what it says itself, also where its text was copied to."""
    if str(kind := vars(cls).get("kind")).startswith("keras3conv."):
        return str(kind)
    module = "torch.nn" if cls.__module__.startswith("torch.nn.modules.") else cls.__module__
    return f"{module}.{cls.__qualname__}"


def _config(layer: nn.Module) -> dict[str, Any]:
    """The plain public attributes of a module, and of each parameter whether it is there."""
    config = {
        name: value
        for name, value in vars(layer).items()
        if not name.startswith("_") and name != "training" and plain(value)
    }
    present = {name: tensor is not None for name, tensor in layer._parameters.items()}
    return present | config


def arguments(inputs: object, device: torch.device, *, float64: bool) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """What a module is called with, as tensors on its device; raises `InputError` for what is no input."""

    def convert(value: object) -> object:
        if isinstance(value, np.ndarray):
            value = to_torch(value)
        if isinstance(value, torch.Tensor):
            floating = value.is_floating_point()
            return value.to(device=device, dtype=torch.float64 if float64 and floating else value.dtype)
        if isinstance(value, dict):
            return {name: convert(item) for name, item in value.items()}
        if isinstance(value, tuple | list):
            return type(value)(convert(item) for item in value)
        return value

    if isinstance(inputs, dict):
        return (), {name: convert(value) for name, value in inputs.items()}
    if isinstance(inputs, tuple):
        return tuple(convert(value) for value in inputs), {}
    if not isinstance(inputs, torch.Tensor | np.ndarray):
        raise InputError(
            f"inputs is a {type(inputs).__name__}: it must be a tensor or an array, a tuple of positional arguments, "
            "or a dict of keyword arguments"
        )
    return (convert(inputs),), {}


def running_tensors(module: nn.Module, values: Mapping[str, Array], *, float64: bool) -> dict[str, torch.Tensor]:
    """Tensors to run with: the given values, the module's own where it must be cast, and copies of its buffers."""
    # One entry for a tensor under several names: torch ties the others to it.
    names: dict[int, list[str]] = {}
    for path, tensor in _named_tensors(module):
        names.setdefault(id(tensor), []).append(path)
    substitutes = {}
    buffers = {path for path, _ in module.named_buffers()}
    for path, tensor in [*module.named_parameters(), *module.named_buffers()]:
        given = next((values[name] for name in names[id(tensor)] if name in values), None)
        value = tensor.detach() if given is None else to_torch(np.ascontiguousarray(given)).to(tensor.device)
        if float64 and value.is_floating_point():
            value = value.double()
        # A module with a state writes it into its buffers: into a copy, so that every run begins alike.
        value = value.clone() if path in buffers else value
        if given is not None or value.dtype != tensor.dtype or path in buffers:
            substitutes[path] = value
    return substitutes


def _same(first: torch.Tensor, second: torch.Tensor) -> bool:
    return torch.equal(torch.nan_to_num(first), torch.nan_to_num(second))


@contextmanager
def _hooks(
    module: nn.Module, calls: list[Call], stack: list[str], record: Callable[[str], bool], follower: Follower
) -> Iterator[None]:
    """Records every call of every module inside `module` into `calls`; `stack` is where an exception came from."""
    handles = []
    counter = iter(range(1 << 62))
    flattened = Flattened()

    def watch(path: str, child: nn.Module) -> None:
        open_calls: list[Call] = []

        def before(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            stack.append(path)
            tensors = [tensor for _, tensor in flatten((args, kwargs), _is_tensor)]
            follower.enter(path, tensors)
            open_calls.append(
                Call(
                    path=path,
                    place=next(counter),
                    inputs=tuple(map(_copy, tensors)) if record(path) else (),
                    shapes=tuple(tuple(tensor.shape) for tensor in tensors),
                    flattened=flattened.shape(tensors[0]) if tensors else None,
                )
            )

        def after(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: object) -> None:
            stack.pop()
            calls.append(replace(open_calls.pop(), outputs=_arrays(output) if record(path) else ()))
            follower.leave([tensor for _, tensor in flatten(output, _is_tensor)])

        handles.append(child.register_forward_pre_hook(before, with_kwargs=True))
        handles.append(child.register_forward_hook(after, with_kwargs=True))

    try:
        for path, child in module.named_modules():
            watch(path, child)
        with FollowingFlattening(flattened, follower):
            yield
    finally:
        for handle in handles:
            handle.remove()


def _arrays(value: object) -> tuple[Array, ...]:
    return tuple(_copy(tensor) for _, tensor in flatten(value, _is_tensor))


def _copy(tensor: torch.Tensor) -> Array:
    """A copy: what a module returned may be overwritten by an in-place module after it."""
    return np.array(to_numpy(tensor))


def _call_error(
    module: nn.Module, stack: list[str], args: tuple[Any, ...], kwargs: dict[str, Any], error: Exception
) -> ModelError:
    given = [f"{name}: {tuple(tensor.shape)}" for name, tensor in flatten([*args], _is_tensor)]
    given += [f"{name}: {tuple(tensor.shape)}" for name, tensor in flatten(kwargs, _is_tensor)]
    where = stack[-1] if stack else ""
    problem = Problem(torch=where or type(module).__name__, fact=f"{type(error).__name__}: {error}")
    return ModelError(
        lay_out(
            f"{type(module).__name__} (torch) raised when it was called with {', '.join(given) or 'nothing'}", [problem]
        )
    )
