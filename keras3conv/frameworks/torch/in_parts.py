"""Choose for each computed weight (weight norm) if a view has the weight, or the tensors that it is computed from.

A plan for a Keras model that someone wrote pairs the weight itself with a kernel. A conversion keeps what is trained:
its Keras model has the parts (the tensors that the weight is computed from) as variables, and computes the weight.
"""

from collections.abc import Collection
from copy import deepcopy

import torch
from torch import nn

from keras3conv.frameworks.torch.derived import derived_tensors, is_parametrized
from keras3conv.frameworks.torch.tensors import named_buffers, named_modules
from keras3conv.model.views import ModelView


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


def split_outside(module: nn.Module, owners: Collection[str]) -> frozenset[str]:
    """Return the paths of the computed weights that a converted model computes, too, from the same stored tensors.

    Args:
        module: The module.
        owners: The paths of the modules that a rule of the user converts; their weights are left out.
    """
    whole = tuple(f"{owner}." for owner in owners)
    return frozenset(path for path in derived_tensors(module) if not path.startswith(whole))


def buffers_of(module: nn.Module, in_parts: Collection[str]) -> dict[str, tuple[str, ...]]:
    """Return the paths of the buffers that computed weights depend on: {"conv.weight": ("conv.weight_u",)}.

    A weight that depends on no buffer is left out.
    """
    buffers = dict(named_buffers(module))
    derived = derived_tensors(module)
    found = {path: tuple(part for part in derived[path].parts if part in buffers) for path in sorted(in_parts)}
    return {path: names for path, names in found.items() if names}


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
