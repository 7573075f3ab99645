"""Create the view of a live torch module: the classes, configurations and tensors of its submodules.

For each computed weight (weight norm) a view has the weight, or the tensors that it is computed from (its parts). A
plan for a Keras model that someone wrote pairs the weight itself with a kernel. A conversion keeps what is trained: its
Keras model has the parts as variables, and computes the weight.
"""

import inspect
from collections.abc import Collection, Iterator, Mapping
from functools import lru_cache
from typing import Any

import torch
from torch import nn

from keras3conv.errors import ModelError, Problem
from keras3conv.frameworks.torch.behaviour import centred_norm
from keras3conv.frameworks.torch.derived import Derived, derived_tensors, is_parametrized, overrides
from keras3conv.frameworks.torch.tensors import dtype_name, named_modules, named_tensors, to_numpy
from keras3conv.messages import lay_out
from keras3conv.model.views import LayerView, ModelView, Reader, TensorRef, made, plain


def view(
    module: nn.Module, *, described: bool = True, empty: bool = False, in_parts: Collection[str] = ()
) -> ModelView:
    """Return a view of a module: named tensors, grouped by the submodule that owns them.

    Args:
        module: The module.
        described: Whether to include the configurations of the layers, and layers without tensors.
        empty: Whether tensors may be on the meta device, which have no values to read.
        in_parts: The paths of computed weights (weight norm) to leave out: the view has the tensors that they are
            computed from ("weight_g", "weight_v") instead.

    Raises:
        ModelError: A tensor has no values (in a lazy module or on the meta device), or is not dense.
    """
    names, required = arguments(module)
    tensors, modules = dict(named_tensors(module)), named_modules(module)
    derived, inner = derived_tensors(module, in_parts), inner_modules(module, in_parts)
    _require_values(module, tensors, empty=empty)
    by_owner: dict[str, dict[str, Derived]] = {}
    for path, weight in derived.items():
        by_owner.setdefault(weight.owner, {})[path] = weight
    return ModelView(
        side="torch",
        name=type(module).__name__,
        layers=tuple(
            _layer_view(path, layer, by_owner.get(path, {}), described=described)
            for path, layer in modules
            if path not in inner and (_owns_tensors(layer) or (described and path))
        ),
        reader=lambda path: to_numpy(derived[path].compute() if path in derived else tensors[path]),
        facts={"format": "live torch module"},
        arguments=names,
        required=required,
        keywords=keywords(module),
    )


def arguments(module: nn.Module) -> tuple[tuple[str, ...], int]:
    """Return the names of the positional arguments of a module's `forward`, and how many of them have no default.

    There are no names if `forward` is not a Python function.
    """
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    try:
        parameters = inspect.signature(module.forward).parameters.values()
    except ValueError:  # TorchScript
        return (), 0
    positional = [parameter for parameter in parameters if parameter.kind in kinds]
    required = sum(parameter.default is parameter.empty for parameter in positional)
    return tuple(parameter.name for parameter in positional), required


def keywords(module: nn.Module) -> tuple[str, ...]:
    """Return the names under which a module takes arguments; no names if it takes any, or if they are unknown.

    A hook that receives the keyword arguments of a call may take any name, and so may a decorator of `forward`.
    """
    if module._forward_pre_hooks_with_kwargs:
        return ()
    try:
        parameters = inspect.signature(module.forward, follow_wrapped=False).parameters.values()
    except ValueError:  # TorchScript
        return ()
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        return ()
    kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return tuple(parameter.name for parameter in parameters if parameter.kind in kinds)


def stored_tensors(module: nn.Module) -> tuple[tuple[TensorRef, ...], Reader]:
    """Return the tensors that a file of a module's weights would contain, and a reader of their values.

    A file does not contain a computed weight, but the tensors that it is computed from.
    """
    tensors = dict(named_tensors(module))
    layers = (_layer_view(path, layer, {}) for path, layer in named_modules(module))
    return tuple(tensor for layer in layers for tensor in layer.tensors), lambda path: to_numpy(tensors[path])


def _owns_tensors(module: nn.Module) -> bool:
    """Return True if a module itself, without its submodules, has parameters, buffers or computed weights."""
    if any(tensor is not None for tensor in (*module._parameters.values(), *module._buffers.values())):
        return True
    return is_parametrized(module)


def _require_values(module: nn.Module, tensors: Mapping[str, torch.Tensor], *, empty: bool) -> None:
    """Raise `ModelError` if a tensor has no values, or is not dense, or a submodule is quantized.

    Args:
        module: The module.
        tensors: Its tensors by path.
        empty: Whether tensors on the meta device, which have no values, are allowed.
    """
    problems = list(_quantized(module))
    for path, tensor in tensors.items():
        if nn.parameter.is_lazy(tensor):
            problems.append(Problem(torch=path, fact="this parameter has no shape yet: call the module once before"))
        elif tensor.is_meta and not empty:
            problems.append(
                Problem(
                    torch=path, fact="this tensor is on the meta device, so it has no values: load the weights first"
                )
            )
        elif tensor.is_sparse or tensor.is_quantized or tensor.is_nested:
            problems.append(
                Problem(
                    torch=path,
                    fact=f"this tensor is {tensor.layout}, {tensor.dtype}, but only dense tensors are supported",
                )
            )
    if problems:
        raise ModelError(lay_out(f"{type(module).__name__} (torch) cannot be read", problems))


_QUANTIZED = ("torch.ao.nn.quantized", "torch.ao.nn.intrinsic.quantized")
"""The packages of quantized modules, whose weights are packed for their kernels and are not tensors."""


def _quantized(module: nn.Module) -> Iterator[Problem]:
    """Yield a problem for each quantized module, but not for modules inside a quantized module."""
    found: list[str] = []
    for path, child in named_modules(module):
        if type(child).__module__.startswith(_QUANTIZED) and not path.startswith(tuple(f"{outer}." for outer in found)):
            found.append(path)
            name = type(child).__name__
            fact = (
                f"this layer is a quantized {name}, whose weights are packed; use the module from before quantization"
            )
            yield Problem(torch=path or type(child).__name__, fact=fact)


def _layer_view(path: str, layer: nn.Module, derived: Mapping[str, Derived], *, described: bool = True) -> LayerView:
    """Return the view of one module; a computed weight replaces the tensors that it is computed from.

    Args:
        path: The path of the module.
        layer: The module.
        derived: The computed weights of the whole model, by path.
        described: Whether to include the configuration.
    """
    own = [*layer._parameters.items(), *layer._buffers.items()]
    may_be_norm = _may_be_norm(layer)
    config = _config(layer) if described or may_be_norm else {}
    norm = centred_norm(layer, config) if may_be_norm else None
    cls: type = type(layer)
    kinds = _kinds(cls)
    parts = {part for weight in derived.values() for part in weight.parts}
    stored = [_tensor_ref(path, name, tensor) for name, tensor in own if tensor is not None]
    computed = [_derived_ref(weight) for weight in derived.values() if weight.owner == path]
    return LayerView(
        path=path,
        kinds=(kinds[0], norm.kind, *kinds[1:]) if norm and norm.kind not in kinds else kinds,
        config=(config | dict(norm.config) if norm else config) if described else None,
        tensors=(*computed, *(tensor for tensor in stored if tensor.path not in parts)),
        attribute=path.rpartition(".")[2],
    )


def _may_be_norm(module: nn.Module) -> bool:
    """Return True if a module may be a norm: it has its own `forward`, a weight per channel, and maybe a bias."""
    own = {name: tensor for name, tensor in module._parameters.items() if tensor is not None}
    if "weight" not in own or not own.keys() <= {"weight", "bias"} or module._modules or module._buffers:
        return False
    shape = own["weight"].shape
    channels = len(shape) == 1 and shape[0] > 1 and all(tensor.shape == shape for tensor in own.values())
    is_plain = "forward" not in vars(module) and not isinstance(module, torch.jit.ScriptModule)
    return channels and is_plain and overrides(module, "forward")


def _derived_ref(weight: Derived) -> TensorRef:
    value = weight.compute()
    return TensorRef(
        path=weight.path,
        role=weight.name,
        shape=tuple(value.shape),
        dtype=dtype_name(value.dtype),
        trainable=weight.trainable,
        is_computed=True,
    )


def _tensor_ref(path: str, name: str, tensor: torch.Tensor) -> TensorRef:
    values = {
        "path": f"{path}.{name}" if path else name,
        "role": name,
        "shape": tuple(tensor.shape),
        "dtype": dtype_name(tensor.dtype),
        "trainable": isinstance(tensor, nn.Parameter),
        "storage": _storage(tensor),
    }
    return made(TensorRef, values)


def _storage(tensor: torch.Tensor) -> str:
    """Return an identifier of a tensor's memory, which tied tensors share.

    On the meta device, where tensors have no memory, two tensors are tied only if they are the same object.
    """
    if tensor.is_meta:
        return f"meta {id(tensor)}"
    return f"{tensor.data_ptr()}{tensor.stride()}" if tensor.numel() else ""


@lru_cache(maxsize=1024)
def _kinds(cls: type) -> tuple[str, ...]:
    bases = [base for base in cls.__mro__ if issubclass(base, nn.Module)]
    return tuple(map(_class_name, bases[:-1] or bases))  # a bare nn.Module has a class too: without one, any rule fits


def _class_name(cls: type) -> str:
    """Return the qualified name of a class; for a class of keras3conv, or a copy of its source, its `kind`."""
    if str(kind := vars(cls).get("kind")).startswith("keras3conv."):
        return str(kind)
    module = "torch.nn" if cls.__module__.startswith("torch.nn.modules.") else cls.__module__
    return f"{module}.{cls.__qualname__}"


def _config(layer: nn.Module) -> dict[str, Any]:
    """Return the plain public attributes of a module, and for each parameter if the module has it: {"bias": True}."""
    config = {
        name: value
        for name, value in vars(layer).items()
        if not name.startswith("_") and name != "training" and plain(value)
    }
    present = {name: tensor is not None for name, tensor in layer._parameters.items()}
    return present | config


def inner_modules(module: nn.Module, in_parts: Collection[str] = ()) -> set[str]:
    """Return the paths of modules that a view leaves out: they only hold the tensors that weights are computed from.

    Args:
        module: The module.
        in_parts: The paths of the computed weights for which the view has these tensors; their modules are kept.
    """
    found = set()
    for path, child in named_modules(module):
        if not is_parametrized(child):
            continue
        start = f"{path}.parametrizations" if path else "parametrizations"
        kept = tuple(
            f"{start}.{weight.rpartition('.')[2]}." for weight in in_parts if weight.rpartition(".")[0] == path
        )
        for name, inner in named_modules(child.get_submodule("parametrizations")):
            full = f"{start}.{name}" if name else start
            has_parts = any(tensor is not None for tensor in (*inner._parameters.values(), *inner._buffers.values()))
            if not (has_parts and f"{full}.".startswith(kept)):
                found.add(full)
    return found
