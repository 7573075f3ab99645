"""List, read and write the weights that a torch module computes from other tensors: weight norm, spectral norm, others.

A view lists the computed weight as one tensor with its usual name, so that it can be paired with a Keras variable. When
it is written, its parts (the tensors that it is computed from) get suitable values. For weight norm and spectral norm
the computed weight then has exactly the written value. `convert` keeps the parts instead: see `split_outside` in
`exportable`.
"""

from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial

import torch
from torch import nn
from torch.nn.utils import parametrizations, parametrize
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

from keras3conv.errors import ModelError, Problem
from keras3conv.frameworks.torch.behaviour import computed_kernel, convolving_with, kernel_parts, write_kernel
from keras3conv.frameworks.torch.norm_parts import set_parts
from keras3conv.frameworks.torch.tensors import named_buffers, named_modules, named_tensors
from keras3conv.messages import lay_out
from keras3conv.model.views import ModelView


@dataclass(frozen=True, kw_only=True)
class Derived:
    """A weight that a module computes from other tensors (its parts), as weight norm does.

    Attributes:
        path: The path in the model, such as "conv.weight".
        owner: The path of the module that owns the weight.
        name: The name of the weight in that module.
        parts: The paths of the tensors that the weight is computed from.
        trainable: Whether one of the parts is a parameter.
        compute: Returns the weight as the module computes it in evaluation mode.
        assign: Writes parts from which the module computes a given value.
        held: A context manager in which the module uses a given value instead of the computed weight.
        refresh: Computes the weight again, for a module that stores the computed weight between calls.
    """

    path: str
    owner: str
    name: str
    parts: tuple[str, ...]
    trainable: bool
    compute: Callable[[], torch.Tensor]
    assign: Callable[[torch.Tensor], None]
    held: Callable[[torch.Tensor], AbstractContextManager[None]]
    refresh: Callable[[], None]


def parametrized_weights(path: str, child: nn.Module) -> Iterator[Derived]:
    """Yield the weights that `torch.nn.utils.parametrize` computes in the module `child` at a path of the model."""
    for name, steps in child.get_submodule("parametrizations").named_children():
        assert isinstance(steps, parametrize.ParametrizationList)
        held = {f"parametrizations.{name}.{part}": tensor for part, tensor in named_tensors(steps)}
        yield Derived(
            path=_join(path, name),
            owner=path,
            name=name,
            parts=tuple(_join(path, part) for part in held),
            trainable=any(isinstance(tensor, nn.Parameter) for tensor in held.values()),
            compute=partial(_evaluated, steps),
            assign=_assignment(path, child, name, steps),
            held=partial(_returning, steps, "forward"),
            refresh=_nothing,
        )


def hooked_weights(path: str, child: nn.Module) -> Iterator[Derived]:
    """Yield the weights that hooks of `weight_norm` or `spectral_norm` compute in the module `child` at a path."""
    for hook in child._forward_pre_hooks.values():
        if not isinstance(hook, WeightNorm | SpectralNorm):
            continue
        roles = ("g", "v") if isinstance(hook, WeightNorm) else ("orig", "u", "v")
        names = [f"{hook.name}_{role}" for role in roles]
        yield Derived(
            path=_join(path, hook.name),
            owner=path,
            name=hook.name,
            parts=tuple(_join(path, name) for name in names),
            trainable=True,
            compute=_computation(hook, child),
            assign=partial(_assign_hooked, hook, child, names),
            held=partial(_returning, hook, "compute_weight"),
            refresh=partial(_refresh, hook, child),
        )


def standardized_weights(path: str, child: nn.Module) -> Iterator[Derived]:
    """Yield the kernel that a convolution of a user's class computes from its weight, under the path of the weight."""
    if parts := kernel_parts(child):
        yield Derived(
            path=_join(path, "weight"),
            owner=path,
            name="weight",
            parts=tuple(_join(path, part) for part in parts),
            trainable=True,
            compute=partial(computed_kernel, child),
            assign=partial(_assign_kernel, path, child),
            held=partial(convolving_with, child),
            refresh=_nothing,
        )


def _assign_kernel(path: str, child: nn.Module, value: torch.Tensor) -> None:
    write_kernel(child, value)
    difference = (computed_kernel(child) - value).abs().max()
    if not difference <= 16 * torch.finfo(value.dtype).eps * value.abs().max():
        fact = f"{type(child).__name__} computes its kernel from its weight, and cannot compute this kernel: "
        fact += f"the nearest kernel that was found differs by {difference:.2g}"
        raise ModelError(
            lay_out(
                "a weight of the torch module cannot be set",
                [Problem(torch=_join(path, "weight"), fact=fact, fixes=(_plain(path, child),))],
            )
        )


def _plain(path: str, child: nn.Module) -> str:
    """Return a line of Python that replaces a convolution, whose kernel is computed, by a plain convolution."""
    names = ("stride", "padding", "dilation", "groups")
    settings = ", ".join(f"{name}={getattr(child, name)!r}" for name in names)
    sizes = f"{child.in_channels}, {child.out_channels}, {child.kernel_size}"
    kind = next(cls.__name__ for cls in type(child).__mro__ if cls.__module__.startswith("torch.nn.modules"))
    return f'module.set_submodule("{path}", torch.nn.{kind}({sizes}, {settings}, bias={child.bias is not None}))'


def _assign_hooked(hook: WeightNorm | SpectralNorm, child: nn.Module, names: list[str], value: torch.Tensor) -> None:
    held = [getattr(child, name) for name in names]
    set_parts(held, value, hook.dim, _computation(hook, child))
    _refresh(hook, child)


def _refresh(hook: WeightNorm | SpectralNorm, child: nn.Module) -> None:
    """Compute the weight of a module again by its hook, and store the weight in the module, as before a call."""
    with torch.no_grad():
        setattr(child, hook.name, _computation(hook, child)())


def _nothing() -> None:
    """Do nothing: the weight needs no update, because the module computes it whenever it is used."""


@contextmanager
def _returning(holder: nn.Module | WeightNorm | SpectralNorm, method: str, value: torch.Tensor) -> Iterator[None]:
    """Make a method of an object return a fixed value inside the `with` block."""
    vars(holder)[method] = lambda *arguments, **keywords: value
    try:
        yield
    finally:
        del vars(holder)[method]


def _computation(hook: WeightNorm | SpectralNorm, child: nn.Module) -> Callable[[], torch.Tensor]:
    if isinstance(hook, SpectralNorm):
        return lambda: hook.compute_weight(child, do_power_iteration=False)
    return lambda: hook.compute_weight(child)


def _assignment(
    path: str, child: nn.Module, name: str, steps: parametrize.ParametrizationList
) -> Callable[[torch.Tensor], None]:
    """Return a function that sets the weight `name` of `child`, which `steps` computes from stored tensors.

    The function writes these stored tensors.
    """
    step, own = steps[0] if len(steps) == 1 else None, dict(named_tensors(steps))

    def assign(value: torch.Tensor) -> None:
        if isinstance(step, parametrizations._WeightNorm):
            set_parts([own["original0"], own["original1"]], value, step.dim, partial(_evaluated, steps))
        elif isinstance(step, parametrizations._SpectralNorm) and value.ndim > 1:
            set_parts([own["original"], own["0._u"], own["0._v"]], value, step.dim, partial(_evaluated, steps))
        else:
            _assign_by_inverse(path, child, name, steps, value)

    return assign


def _assign_by_inverse(
    path: str, child: nn.Module, name: str, steps: parametrize.ParametrizationList, value: torch.Tensor
) -> None:
    kinds = ", ".join(type(step).__name__ for step in steps)
    try:
        setattr(child, name, value)
    except (RuntimeError, ValueError, NotImplementedError) as error:
        raise _refused(
            path, name, f"this weight is computed by {kinds}, which has no inverse, so it cannot be set: {error}"
        ) from error
    difference = (_evaluated(steps) - value).abs().max()
    if not difference <= 16 * torch.finfo(value.dtype).eps * value.abs().max():
        raise _refused(
            path, name, f"the weight that {kinds} computes differs from the written value by {difference:.2g}"
        )


def _refused(path: str, name: str, fact: str) -> ModelError:
    fixes = (f'torch.nn.utils.parametrize.remove_parametrizations(module.get_submodule("{path}"), "{name}")',)
    return ModelError(
        lay_out(
            "a weight of the torch module cannot be set", [Problem(torch=_join(path, name), fact=fact, fixes=fixes)]
        )
    )


def _evaluated(steps: parametrize.ParametrizationList) -> torch.Tensor:
    """Return the weight that a parametrization computes in evaluation mode; in training mode its state would change."""
    flags = [(step, step.training) for step in steps.modules()]
    steps.eval()
    try:
        with torch.no_grad():
            weight: torch.Tensor = steps()
            return weight
    finally:
        for step, training in flags:
            step.training = training


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path and name else path or name


def derived_tensors(module: nn.Module, in_parts: Collection[str] = ()) -> dict[str, Derived]:
    """Return the weights that a module computes from other tensors (weight norm, spectral norm), by path.

    Args:
        module: The module.
        in_parts: The paths of the computed weights to leave out, because their parts are used instead.
    """
    found: list[Derived] = []
    for path, child in named_modules(module):
        if is_parametrized(child):
            found += parametrized_weights(path, child)
        elif _convolves_itself(child):
            found += standardized_weights(path, child)
        if child._forward_pre_hooks:
            found += hooked_weights(path, child)
    return {weight.path: weight for weight in found if weight.path not in in_parts}


def is_parametrized(module: nn.Module) -> bool:
    """Return True if a module has a weight that `torch.nn.utils.parametrize` computes."""
    # `parametrize.is_parametrized` is slow for other modules: it looks up an attribute that does not exist.
    return "parametrizations" in module._modules and parametrize.is_parametrized(module)


def _convolves_itself(module: nn.Module) -> bool:
    """Return True for a convolution of a user's class that overrides how torch convolves with the weight."""
    is_convolution = isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d) and not module.transposed
    return is_convolution and "weight" in module._parameters and overrides(module, "forward", "_conv_forward")


def overrides(module: nn.Module, *methods: str) -> bool:
    """Return True if a user's class overrides one of the given methods of its torch.nn base class."""
    functions = [getattr(type(module), name, None) for name in methods]
    return any(not str(getattr(function, "__module__", "")).startswith("torch.nn.") for function in functions)


def planned_in_parts(module: nn.Module, planned: ModelView | None) -> frozenset[str]:
    """Return the paths of the computed weights for which a plan has the stored tensors ("weight_g", "weight_v").

    Args:
        module: The module.
        planned: The module's tensors in the plan; None if there is no plan.
    """
    if planned is None:
        return frozenset()
    stored = {tensor.path for tensor in planned.tensors() if not tensor.is_computed}
    return frozenset(path for path, weight in derived_tensors(module).items() if stored.issuperset(weight.parts))


def buffers_of(module: nn.Module, in_parts: Collection[str]) -> dict[str, tuple[str, ...]]:
    """Return the paths of the buffers that computed weights depend on: {"conv.weight": ("conv.weight_u",)}.

    A weight that depends on no buffer is left out.
    """
    buffers = dict(named_buffers(module))
    derived = derived_tensors(module)
    found = {path: tuple(part for part in derived[path].parts if part in buffers) for path in sorted(in_parts)}
    return {path: names for path, names in found.items() if names}
