"""The tree of modules of a torch module: what each is called, what each owns, what is computed of other tensors."""

from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any

import torch
from torch import nn

from keras3conv.errors import ModelError, Problem
from keras3conv.frameworks.shared.recording import plain
from keras3conv.frameworks.torch.derived import Derived, inner_modules, is_parametrized
from keras3conv.frameworks.torch.walk import named_modules
from keras3conv.messages import lay_out
from keras3conv.model.views import LayerView, TensorRef


def named_layers(module: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Every module, also under a second name; the root only if it owns tensors."""
    inner = inner_modules(module)
    for path, child in named_modules(module):
        if path not in inner and (path or owns_tensors(child)):
            yield path, child


def owns_tensors(module: nn.Module) -> bool:
    """Whether a module has parameters or buffers of its own, computed weights too."""
    if any(tensor is not None for tensor in (*module._parameters.values(), *module._buffers.values())):
        return True
    return is_parametrized(module)


def require_values(module: nn.Module, tensors: Mapping[str, torch.Tensor]) -> None:
    """Raises `ModelError` where a tensor has no values, or no dense ones."""
    problems = list(_packed(module))
    for path, tensor in tensors.items():
        if nn.parameter.is_lazy(tensor):
            problems.append(Problem(torch=path, fact="has no shape yet: call the module once before it is viewed"))
        elif tensor.is_meta:
            problems.append(Problem(torch=path, fact="is on the meta device: it has no values"))
        elif tensor.is_sparse or tensor.is_quantized or tensor.is_nested:
            problems.append(Problem(torch=path, fact=f"is {tensor.layout}, {tensor.dtype}: only dense tensors move"))
    if problems:
        raise ModelError(lay_out(f"{type(module).__name__} (torch) cannot be read", problems))


_QUANTISED = ("torch.ao.nn.quantized", "torch.ao.nn.intrinsic.quantized")
"""Where the modules are whose weights are no tensors, but packed for the kernels that use them."""


def _packed(module: nn.Module) -> Iterator[Problem]:
    """The quantised modules in a module; what is in one is not named, too."""
    found: list[str] = []
    for path, child in named_modules(module):
        if type(child).__module__.startswith(_QUANTISED) and not path.startswith(tuple(f"{outer}." for outer in found)):
            found.append(path)
            fact = f"is a quantised {type(child).__name__}, its weights are packed: take the module before it was"
            yield Problem(torch=path or type(child).__name__, fact=fact)


def layer_view(path: str, layer: nn.Module, derived: Mapping[str, Derived], *, described: bool = True) -> LayerView:
    """One module with the tensors that are its own; a computed weight stands in the place of what it is computed of."""
    own = [*layer._parameters.items(), *layer._buffers.items()]
    cls: type = type(layer)
    parts = {part for weight in derived.values() for part in weight.parts}
    stored = [_tensor_ref(path, name, tensor) for name, tensor in own if tensor is not None]
    computed = [_derived_ref(weight) for weight in derived.values() if weight.owner == path]
    return LayerView(
        path=path,
        kinds=_kinds(cls),
        config=_config(layer) if described else None,
        tensors=(*computed, *(tensor for tensor in stored if tensor.path not in parts)),
        attribute=path.rpartition(".")[2],
    )


def _derived_ref(weight: Derived) -> TensorRef:
    value = weight.compute()
    return TensorRef(
        path=weight.path,
        role=weight.name,
        shape=tuple(value.shape),
        dtype=_dtype(value.dtype),
        trainable=weight.trainable,
        is_computed=True,
    )


def _tensor_ref(path: str, name: str, tensor: torch.Tensor) -> TensorRef:
    return TensorRef(
        path=_join(path, name),
        role=name,
        shape=tuple(tensor.shape),
        dtype=_dtype(tensor.dtype),
        trainable=isinstance(tensor, nn.Parameter),
        storage=f"{tensor.data_ptr()}{tensor.stride()}" if tensor.numel() else "",
    )


@lru_cache(maxsize=64)
def _dtype(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


@lru_cache(maxsize=1024)
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


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name
