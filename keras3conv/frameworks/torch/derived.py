"""Read and write weights that a torch module computes from other tensors: weight norm, spectral norm, and others.

A view lists the computed weight as one tensor with its usual name, so that it can be paired with a Keras variable. When
it is written, its parts (the tensors that it is computed from) get suitable values. For weight norm and spectral norm
the computed weight then has exactly the written value. `convert` keeps the parts instead: see `split_outside` in
`exportable`.
"""

from collections.abc import Callable, Iterator
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
from keras3conv.frameworks.torch.tensors import named_tensors
from keras3conv.messages import lay_out

_POWER_ITERATIONS = 15
"""The number of power iterations that torch itself makes when a spectral norm is registered."""

_CORRECTIONS = 32
"""The maximum number of corrections of the parts by one unit in the last place; usually two are enough."""


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
    if isinstance(hook, WeightNorm):
        values = weight_norm_parts(value, hook.dim)
    else:
        values = spectral_norm_parts(value, hook.dim, held[1])
    _fill(held, values)
    _correct(held, value, _computation(hook, child))
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
    """Return a function that sets the weight `name` of `child`: it writes the tensors that `steps` computes it from."""
    step, own = steps[0] if len(steps) == 1 else None, dict(named_tensors(steps))

    def assign(value: torch.Tensor) -> None:
        if isinstance(step, parametrizations._WeightNorm):
            held = [own[name] for name in ("original0", "original1")]
            _fill(held, weight_norm_parts(value, step.dim))
            _correct(held, value, lambda: _evaluated(steps))
        elif isinstance(step, parametrizations._SpectralNorm) and value.ndim > 1:
            held = [own[name] for name in ("original", "0._u", "0._v")]
            _fill(held, spectral_norm_parts(value, step.dim, own["0._u"]))
            _correct(held, value, lambda: _evaluated(steps))
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


def weight_norm_parts(weight: torch.Tensor, dim: int | None) -> list[torch.Tensor]:
    """Return the magnitude g and the direction v (the weight itself) for a weight norm, which computes `g * v / |v|`.

    Args:
        weight: The weight.
        dim: The axis along which there is a magnitude for each index; None or -1 for a single magnitude.
    """
    length = torch.norm_except_dim(weight, 2, -1 if dim is None else dim)
    # The direction must not be zero; with magnitude zero any other direction gives zeros.
    return [length, torch.where(length == 0, torch.ones_like(weight), weight)]


def spectral_norm_parts(weight: torch.Tensor, dim: int, start: torch.Tensor) -> list[torch.Tensor]:
    """Return the tensor and the vectors u and v with which a spectral norm computes a given weight.

    Spectral norm divides by `u @ W @ v`. Power iteration finds the singular vectors of the largest singular value, and
    u is divided by this singular value, so that the divisor is one and the weight keeps its values.

    Raises:
        ModelError: The weight is zero, which spectral norm cannot represent.
    """
    matrix = weight.movedim(dim, 0).flatten(1)
    u = start.to(weight.dtype)
    for _ in range(_POWER_ITERATIONS):
        u = nn.functional.normalize(matrix @ (matrix.T @ u), dim=0)
    v = nn.functional.normalize(matrix.T @ u, dim=0)
    u = nn.functional.normalize(matrix @ v, dim=0)
    norm = u @ (matrix @ v)
    if not norm > 0:
        raise ModelError(
            "spectral norm cannot represent a weight that is all zeros: remove the spectral norm before the transfer"
        )
    return [weight, u / norm, v]


def _fill(held: list[torch.Tensor], values: list[torch.Tensor]) -> None:
    with torch.no_grad():
        for target, value in zip(held, values, strict=True):
            target.copy_(value)


def _correct(held: list[torch.Tensor], value: torch.Tensor, compute: Callable[[], torch.Tensor]) -> None:
    """Change the tensors `held` in place, from which a weight is computed, until the weight equals a value exactly.

    They are changed to adjacent floating-point numbers. If this fails, the last attempt remains.
    """
    adjust = _adjust_lengths if len(held) == 2 else _adjust_vector
    with torch.no_grad():
        for attempt in range(_CORRECTIONS):
            made = compute()
            if torch.equal(made, value):
                return
            adjust(held, made.abs(), value.abs(), attempt)


def _adjust_lengths(held: list[torch.Tensor], computed: torch.Tensor, value: torch.Tensor, attempt: int) -> None:
    """Change each magnitude of a weight norm by one unit in the last place, if the weight is too large or too small.

    Args:
        held: The magnitudes, which are changed in place, and the directions.
        computed: The absolute values of the computed weight.
        value: The absolute values that the weight should have.
        attempt: The number of earlier attempts.
    """
    length = held[0]
    axes = [axis for axis in range(value.ndim) if length.ndim == 0 or length.shape[axis] == 1]
    excess = (computed - value).sum(axes, keepdim=length.ndim > 0)
    toward = torch.where(excess > 0, 0.0, torch.inf).to(length)
    length.copy_(torch.where(excess == 0, length, torch.nextafter(length, toward)))


def _adjust_vector(held: list[torch.Tensor], computed: torch.Tensor, value: torch.Tensor, attempt: int) -> None:
    """Change elements of the vector u of a spectral norm by one unit in the last place, fewer with more attempts.

    Args:
        held: The weight, and the vector u, which is changed in place.
        computed: The absolute values of the computed weight.
        value: The absolute values that the weight should have.
        attempt: The number of earlier attempts.
    """
    u = held[1]
    places = torch.arange(len(u), device=u.device).roll(attempt)[: max(1, len(u) >> attempt // 2)]
    # The divisor is a product of u and a multiple of u, so a larger u gives a smaller weight.
    is_too_large = bool((computed - value).sum() > 0)
    u[places] = torch.nextafter(u[places], u[places] * (2.0 if is_too_large else 0.0))


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
