"""The modes in which torch runs a model for us; each is switched on for a while, and all is as before afterwards."""

import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from torch import nn

from keras3conv.errors import ModelError, Problem
from keras3conv.frameworks.torch.attributes import attributes_kept
from keras3conv.frameworks.torch.walk import named_modules
from keras3conv.messages import lay_out


@contextmanager
def evaluating(module: nn.Module) -> Iterator[list[str]]:
    """Puts a module, and all in it, into evaluation mode for a while, uncompiled; all is as before afterwards.

    Compiled, a module would be compiled anew for every mode that it runs in here, which takes minutes.

    Yields:
        A list that afterwards holds the paths of the attributes that were changed meanwhile.

    Raises:
        ModelError: It cannot be watched while it runs.
    """
    modules = named_modules(module)
    _require_watchable(module, modules)
    with attributes_kept(modules) as changed:
        if any(child.training for _, child in modules):
            module.eval()
        with _uncompiled():
            yield changed


def is_compiled(module: nn.Module) -> bool:
    """Whether a module, or one in it, was compiled: by `torch.compile(module)` or by `module.compile()`."""
    return any("_orig_mod" in child._modules or child._compiled_call_impl for _, child in named_modules(module))


@contextmanager
def floats_are(dtype: torch.dtype) -> Iterator[None]:
    """What a module makes of whole numbers while it runs is of this dtype, not of torch's own default."""
    before = torch.get_default_dtype()
    try:
        torch.set_default_dtype(dtype)
        yield
    finally:
        torch.set_default_dtype(before)


@contextmanager
def precise() -> Iterator[None]:
    """Switches TensorFloat-32 off for a while: alone it is a relative error of 3e-4."""
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = matmul.allow_tf32, cudnn.allow_tf32
    try:
        matmul.allow_tf32 = cudnn.allow_tf32 = False
        yield
    finally:
        matmul.allow_tf32, cudnn.allow_tf32 = before


@contextmanager
def generators_kept() -> Iterator[None]:
    """Puts back the states of torch's own generators, those of the devices that are in use too."""
    devices = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]  # torch does not annotate it
    before, of_devices = torch.get_rng_state(), torch.cuda.get_rng_state_all() if devices else []
    try:
        yield
    finally:
        torch.set_rng_state(before)
        if devices:
            torch.cuda.set_rng_state_all(of_devices)


def inference() -> AbstractContextManager[None]:
    """Without gradients for a while."""
    return torch.no_grad()


def _uncompiled() -> AbstractContextManager[object]:
    """What is compiled runs as it was written. Only where torch's compiler is loaded is there something compiled."""
    return torch.compiler.set_stance("force_eager") if "torch._dynamo" in sys.modules else nullcontext()


def _require_watchable(module: nn.Module, modules: list[tuple[str, nn.Module]]) -> None:
    """Raises `ModelError` where a module, or one in it, is TorchScript, on which torch has no hooks."""
    scripts = [path for path, child in modules if isinstance(child, torch.jit.ScriptModule)]
    outermost = [path for path in scripts if path.rpartition(".")[0] not in scripts or not path]
    if outermost:
        fact = "is TorchScript, in which no layer can be watched: the module that it was made of is needed"
        fixes = ("module.load_state_dict(scripted.state_dict())",)
        problems = [Problem(torch=path or type(module).__name__, fact=fact, fixes=fixes) for path in outermost]
        raise ModelError(lay_out(f"{type(module).__name__} (torch) cannot be run", problems))


__all__ = ["evaluating", "floats_are", "generators_kept", "inference", "is_compiled", "precise"]
