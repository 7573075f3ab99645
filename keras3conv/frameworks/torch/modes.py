"""Define context managers for runs in evaluation mode, uncompiled, or in full precision."""

import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from operator import is_
from typing import Any

import torch
from torch import nn

from keras3conv.errors import ModelError, Problem
from keras3conv.frameworks.torch.tensors import named_modules
from keras3conv.messages import lay_out
from keras3conv.model.views import plain


@contextmanager
def evaluating(module: nn.Module) -> Iterator[list[str]]:
    """Set a module to evaluation mode and uncompiled execution inside the `with` block; then restore its attributes.

    A compiled module would be compiled again for each mode, which takes minutes.

    Yields:
        A list that after the `with` block contains the paths of the attributes that the `with` block changed.

    Raises:
        ModelError: The module or a submodule is TorchScript, which does not support hooks.
    """
    modules = named_modules(module)
    _require_hooks(module, modules)
    with attributes_restored(modules) as changed:
        if any(child.training for _, child in modules):
            module.eval()
        with _uncompiled():
            yield changed


def is_compiled(module: nn.Module) -> bool:
    """Return True if a module or submodule was compiled, by `torch.compile(module)` or `module.compile()`."""
    return any("_orig_mod" in child._modules or child._compiled_call_impl for _, child in named_modules(module))


@contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    """Set torch's default dtype inside the `with` block, because a module may convert integers to the default dtype."""
    before = torch.get_default_dtype()
    try:
        torch.set_default_dtype(dtype)
        yield
    finally:
        torch.set_default_dtype(before)


@contextmanager
def precise() -> Iterator[None]:
    """Disable TensorFloat-32, which has a relative error of 3e-4, inside the `with` block."""
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = matmul.allow_tf32, cudnn.allow_tf32
    try:
        matmul.allow_tf32 = cudnn.allow_tf32 = False
        yield
    finally:
        matmul.allow_tf32, cudnn.allow_tf32 = before


@contextmanager
def generators_kept() -> Iterator[None]:
    """Restore the states of torch's random generators, including those of CUDA devices in use."""
    devices = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]  # torch does not annotate it
    before, of_devices = torch.get_rng_state(), torch.cuda.get_rng_state_all() if devices else []
    try:
        yield
    finally:
        torch.set_rng_state(before)
        if devices:
            torch.cuda.set_rng_state_all(of_devices)


def indices_are_checked(module: nn.Module) -> bool:
    """Return whether an index that is out of range raises an exception: only if the module is on a CPU.

    On a GPU such an index makes the device unusable.
    """
    on_cpu = all(tensor.device.type == "cpu" for tensor in module.parameters())
    return on_cpu and not torch.cuda.is_initialized()  # type: ignore[no-untyped-call]  # torch does not annotate it


def inference() -> AbstractContextManager[None]:
    """Disable the recording of gradients inside the `with` block."""
    return torch.no_grad()


def _uncompiled() -> AbstractContextManager[object]:
    """Run compiled modules eagerly; do nothing if torch's compiler is not loaded, because nothing is compiled then."""
    return torch.compiler.set_stance("force_eager") if "torch._dynamo" in sys.modules else nullcontext()


def _require_hooks(module: nn.Module, modules: list[tuple[str, nn.Module]]) -> None:
    """Raise `ModelError` if a module or a submodule is TorchScript, on which torch supports no hooks."""
    scripts = [path for path, child in modules if isinstance(child, torch.jit.ScriptModule)]
    outermost = [path for path in scripts if path.rpartition(".")[0] not in scripts or not path]
    if outermost:
        fact = "this module is TorchScript, which does not support hooks: pass the nn.Module that it was made from"
        fixes = ("module.load_state_dict(scripted.state_dict())",)
        problems = [Problem(torch=path or type(module).__name__, fact=fact, fixes=fixes) for path in outermost]
        raise ModelError(lay_out(f"{type(module).__name__} (torch) cannot be run", problems))


_MODULE_ATTRIBUTES = frozenset(vars(nn.Module()))
"""The names of the attributes that every module has: flags, hooks, and registries of parameters and submodules."""

_HOOKS = (
    "_forward_hooks",
    "_forward_hooks_with_kwargs",
    "_forward_hooks_always_called",
    "_forward_pre_hooks",
    "_forward_pre_hooks_with_kwargs",
)
"""The registries of hooks, which a module may add to itself in its first call."""

_REGISTRIES = ("_parameters", "_buffers", "_modules", "_non_persistent_buffers_set", *_HOOKS)


@contextmanager
def attributes_restored(modules: Iterable[tuple[str, nn.Module]]) -> Iterator[list[str]]:
    """Restore the flags and attributes of modules, and the contents of attributes that are lists, dicts or sets.

    A module may store values for its next call, such as a table of angles. A table from a float64 run would be float64,
    and would be used with float32 tensors in the user's next run.

    Args:
        modules: All modules of a model, with their paths.

    Yields:
        A list that after the `with` block contains the paths of the attributes whose values changed. If there are any,
        the model has a state.
    """
    modules = list(modules)
    flags = [(child, child.training) for _, child in modules]
    before = [(path, child, dict(vars(child))) for path, child in modules if not _is_stateless(child)]
    contents = {id(holder): holder.copy() for _, child, _ in before for holder in _containers(child) if holder}
    stateless = [child for _, child in modules if _is_stateless(child)]
    changed: list[str] = []
    try:
        yield changed
    finally:
        for child, training in flags:
            if child.training != training:
                child.training = training
        for path, child, attributes in before:
            changed += [f"{path}.{name}" if path else name for name in _restore(child, attributes)]
            for holder in _containers(child):
                _restore_contents(holder, contents.get(id(holder), ()))
        for child in stateless:
            if not _is_stateless(child):
                for name in _HOOKS:
                    vars(child)[name].clear()


def _is_stateless(child: nn.Module) -> bool:
    """Return True for a layer class of torch that never changes its attributes in a call; RNN classes are excluded."""
    own = type(child).__module__.startswith("torch.nn.modules.") and not isinstance(child, nn.RNNBase)
    return own and not child._forward_hooks and not child._forward_pre_hooks


def _containers(child: nn.Module) -> Iterator[Any]:
    """Yield the attributes of a module whose contents a call may change: its registries, lists, dicts and sets."""
    attributes = vars(child)
    for name in _REGISTRIES:
        yield attributes[name]
    for name in attributes.keys() - _MODULE_ATTRIBUTES:
        if type(attributes[name]) in (dict, list, set):
            yield attributes[name]


def _restore(child: nn.Module, before: Mapping[str, Any]) -> list[str]:
    """Restore the attributes of a module; return the names of those whose values changed.

    Args:
        child: The module.
        before: Its attributes before the run, by name.
    """
    now, changed = vars(child), []
    if len(now) == len(before) and all(map(is_, now.values(), before.values())):
        return []
    for name in [name for name in now if name not in before]:
        del now[name]
    for name, old in before.items():
        new = now.get(name)
        if new is not old:
            now[name] = old
            if name != "training" and _values_differ(old, new):
                changed.append(name)
    return changed


def _values_differ(old: object, new: object) -> bool:
    """Return True if the value of an attribute changed; a value in place of None (lazily created) is no change."""
    if isinstance(old, torch.Tensor) and isinstance(new, torch.Tensor):
        return old.dtype == new.dtype and not torch.equal(old.detach(), new.detach())
    return old is not None and plain(old) and plain(new) and old != new


def _restore_contents(holder: Any, content: Any) -> None:
    """Give a list, a dict or a set its former content again, in place.

    Args:
        holder: The list, dict or set.
        content: A copy of it from before the run.
    """
    if len(holder) == len(content) and all(map(is_, _items(holder), _items(content))):
        return
    holder.clear()
    if isinstance(holder, list):
        holder.extend(content)
    else:
        holder.update(content)


def _items(holder: Any) -> Iterable[Any]:
    return holder.values() if isinstance(holder, dict) else holder
