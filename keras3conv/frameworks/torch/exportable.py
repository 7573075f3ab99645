"""Change what `torch.export` cannot follow: `take_along_dim`, experts, and tests of values of masks and parameters.

Computed weights that a converted model does not compute become parameters.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.distributions import Distribution
from torch.nn import functional
from torch.nn.modules import transformer
from torch.overrides import TorchFunctionMode

from keras3conv.frameworks.torch.derived import derived_tensors, is_parametrized
from keras3conv.frameworks.torch.tensors import named_modules


@contextmanager
def exportable(module: nn.Module) -> Iterator[None]:
    """Change inside the `with` block what `torch.export` cannot follow in a module; the values stay the same."""
    with causal_masks_unread(), distributions_unchecked(), experts_without_a_loop(module), TakenAlongAnyBatch():
        yield


def split_outside(module: nn.Module, owners: Collection[str]) -> frozenset[str]:
    """Return the paths of the computed weights that a converted model computes, too, from the same stored tensors.

    Args:
        module: The module.
        owners: The paths of the modules that a rule of the user converts; their weights are left out.
    """
    whole = tuple(f"{owner}." for owner in owners)
    return frozenset(path for path in derived_tensors(module) if not path.startswith(whole))


def with_plain_weights(module: nn.Module, in_parts: Collection[str]) -> nn.Module:
    """Return a copy of a module, in evaluation mode, in which computed weights are parameters.

    If there are none, or the module itself convolves with a kernel that it computes, return the module itself.

    Args:
        module: The module.
        in_parts: The paths of the weights that stay computed.
    """
    derived = derived_tensors(module)
    chosen = {path for path, weight in derived.items() if path not in {*in_parts, *weight.parts}}
    if not chosen:
        return module
    for weight in derived.values():  # a hook leaves its last result, which torch cannot copy
        attributes = vars(module.get_submodule(weight.owner))
        if isinstance(attributes.get(weight.name), torch.Tensor):
            attributes[weight.name] = attributes[weight.name].detach()
    plain = deepcopy(module).eval()
    for path, weight in derived_tensors(plain).items():
        if path not in chosen:
            continue
        owner, value = plain.get_submodule(weight.owner), weight.compute().detach().clone()
        if is_parametrized(owner):
            # The copy has the class of the original, which torch would change if it removed the parametrization.
            owner.__class__ = type(owner).__bases__[0]
            del owner._modules["parametrizations"]
        elif f"{weight.name}_g" in owner._parameters:
            nn.utils.remove_weight_norm(owner, weight.name)
        else:
            nn.utils.remove_spectral_norm(owner, weight.name)
        vars(owner).pop(weight.name, None)
        owner.register_parameter(weight.name, nn.Parameter(value))
    return plain


_FUNCTIONS = (torch.take_along_dim, torch.Tensor.take_along_dim)


class TakenAlongAnyBatch(TorchFunctionMode):
    """Replace `torch.take_along_dim` by an operator with the same arguments and values.

    To broadcast its two tensors, torch's own function compares their shapes, so `torch.export` fixes a dynamic size.
    """

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Call the operator in place of the function; any other function is called itself."""
        keywords = dict(kwargs or {})
        if func in _FUNCTIONS and "out" not in keywords:
            given = dict(zip(("input", "indices", "dim"), args, strict=False)) | keywords
            if given.get("dim") is not None and given["input"].ndim == given["indices"].ndim:
                return torch.ops.keras3conv.take_along_dim(given["input"], given["indices"], given["dim"])
        return func(*args, **keywords)


def _taken(tensor: torch.Tensor, indices: torch.Tensor, dim: int) -> torch.Tensor:
    """Return `torch.take_along_dim` of tensors of equal rank; an axis of size one is repeated as often as needed."""
    axes = [axis for axis in range(tensor.ndim) if axis != dim % tensor.ndim]
    sizes, places = [-1] * tensor.ndim, [-1] * tensor.ndim
    for axis in axes:
        if _is_one(tensor.shape[axis]) and not _is_one(indices.shape[axis]):
            sizes[axis] = indices.shape[axis]
        if _is_one(indices.shape[axis]) and not _is_one(tensor.shape[axis]):
            places[axis] = tensor.shape[axis]
    return torch.gather(tensor.expand(sizes), dim, indices.expand(places))


def _is_one(size: Any) -> bool:
    """Return whether a size is the number one; a dynamic size is not, and is not compared."""
    return isinstance(size, int) and size == 1


_LIBRARY: Any = vars(torch.library)["Library"]("keras3conv", "FRAGMENT")
_LIBRARY.define("take_along_dim(Tensor self, Tensor indices, int dim) -> Tensor")
_LIBRARY.impl("take_along_dim", _taken, "CompositeExplicitAutograd")


@contextmanager
def causal_masks_unread() -> Iterator[None]:
    """Make `nn.TransformerEncoder` and `nn.TransformerDecoder` apply a mask without testing if it is causal.

    They compare a mask with the causal one, to choose a faster kernel. This branch depends on values, which
    `torch.export` cannot follow. Without the comparison the mask itself is applied, which gives the same values.
    """
    name = "_detect_is_causal_mask"
    original = getattr(transformer, name, None)
    if original is None:
        yield
        return

    def as_given(_mask: Any, is_causal: bool | None = None, _size: int | None = None) -> bool:
        return is_causal is True

    setattr(transformer, name, as_given)
    try:
        yield
    finally:
        setattr(transformer, name, original)


@contextmanager
def distributions_unchecked() -> Iterator[None]:
    """Make `torch.distributions` take parameters and values without testing them, unless the code asks for the tests.

    The tests only raise an exception, and depend on values, which `torch.export` cannot follow.
    """
    before = Distribution._validate_args
    Distribution.set_default_validate_args(False)
    try:
        yield
    finally:
        Distribution.set_default_validate_args(before)


_OF_EXPERTS = ("has_gate", "has_bias", "is_transposed", "_is_expert_parallel", "down_proj")
"""The attributes of a module of experts in transformers, by which the library itself chooses how to compute them."""


@contextmanager
def experts_without_a_loop(module: nn.Module) -> Iterator[None]:
    """Make each module of experts of transformers compute every token with every expert, and weight the results.

    The library computes a token only with the experts that the router chose, whose numbers of tokens depend on values;
    `torch.export` cannot follow this. The weights of the other experts are zero, so the values are the same.
    """
    found = [child for _, child in named_modules(module) if all(hasattr(child, name) for name in _OF_EXPERTS)]
    found = [child for child in found if not child._is_expert_parallel]
    try:
        for child in found:
            vars(child)["forward"] = partial(_weighted, child)
        yield
    finally:
        for child in found:
            vars(child).pop("forward", None)


def _weighted(
    experts: Any, hidden_states: torch.Tensor, top_k_index: torch.Tensor, top_k_weights: torch.Tensor
) -> torch.Tensor:
    """Return the sum of the results of all experts for each token, each times its weight, or times zero.

    Args:
        experts: The module of experts.
        hidden_states: The tokens: (tokens, size).
        top_k_index: The experts that the router chose: (tokens, number).
        top_k_weights: Their weights.
    """
    number = experts.down_proj.shape[0]
    chosen = functional.one_hot(top_k_index, number).to(top_k_weights.dtype)
    shares = (chosen * top_k_weights.unsqueeze(-1)).sum(1)
    made = _of_every_expert(experts, "gate_up_proj" if experts.has_gate else "up_proj", "ti", hidden_states)
    made = experts._apply_gate(made) if experts.has_gate else experts.act_fn(made)
    made = _of_every_expert(experts, "down_proj", "tei", made)
    if getattr(experts, "has_post_expert_norm", False):
        made = experts.post_expert_norm(made)
    return (made * shares.unsqueeze(-1)).sum(1).to(hidden_states.dtype)


def _of_every_expert(experts: Any, name: str, axes: str, given: torch.Tensor) -> torch.Tensor:
    kernel = "eio" if experts.is_transposed else "eoi"
    made = torch.einsum(f"{axes},{kernel}->teo", given, getattr(experts, name))
    return made + getattr(experts, f"{name}_bias") if experts.has_bias else made
