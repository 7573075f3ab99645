"""Know the value at which a parameter changes nothing: zero for an offset, one for the scale of a normalisation.

A layer without such a parameter computes the same as one that has it at this value. Statistics have no neutral value:
a layer without them computes them from its input.
"""

from collections.abc import Iterator, Mapping, Sequence

from keras3conv.rules.rule import Rule, WeightMapping
from keras3conv.transforms import Drop, Fill, Shape

_TORCH_OFFSETS = frozenset({"bias", "in_proj_bias", "q_bias", "k_bias", "v_bias", "qkv_bias"})
_TORCH_PACKAGES = ("torch.nn.", "torchvision.", "timm.")


def neutral_in_torch(rule: Rule, role: str) -> int | None:
    """Return the neutral value of a torch tensor of a rule; None where it has none."""
    name = role.rpartition(".")[2]
    if name in _TORCH_OFFSETS or name.startswith(("bias_ih", "bias_hh")):
        return 0
    # Other packages have normalisations that add one to their scale.
    is_scale = name == "weight" and "Norm" in rule.torch and rule.torch.startswith(_TORCH_PACKAGES)
    return 1 if is_scale else None


def neutral_in_keras(rule: Rule, role: str) -> int | None:
    """Return the neutral value of a Keras variable of a rule; None where it has none."""
    name = role.rpartition("/")[2]
    if name in ("bias", "beta"):
        return 0
    return 1 if name in ("gamma", "scale") and "Normalization" in rule.keras else None


def filled(
    rule: Rule, mappings: Sequence[WeightMapping], torch: Mapping[str, Shape], keras: Mapping[str, Shape]
) -> Iterator[WeightMapping]:
    """Yield the mappings of two layers, with constants for the neutral tensors that only one of the two has.

    A mapping stays as it is where both layers have its tensors, or where a missing one has no neutral value.

    Args:
        rule: The rule that the mappings are from.
        mappings: The mappings, with roles.
        torch: The shapes of the torch layer's tensors, by role.
        keras: Likewise of the Keras layer.
    """
    for mapping in mappings:
        has_torch = [role in torch for role in mapping.torch]
        has_keras = [role in keras for role in mapping.keras]
        values_in_torch = [neutral_in_torch(rule, role) for role in mapping.torch]
        values_in_keras = [neutral_in_keras(rule, role) for role in mapping.keras]
        if mapping.torch and not any(has_torch) and all(has_keras) and None not in values_in_keras:
            for role, value in zip(mapping.keras, values_in_keras, strict=True):
                yield WeightMapping(torch=(), keras=(role,), transform=Fill(value or 0, keras[role]))
        elif mapping.keras and not any(has_keras) and all(has_torch) and None not in values_in_torch:
            for role, value in zip(mapping.torch, values_in_torch, strict=True):
                yield WeightMapping(torch=(role,), keras=(), transform=Drop(value or 0, torch[role]))
        else:
            yield mapping


_MEANINGS = {
    "running_mean": "mean",
    "moving_mean": "mean",
    "running_var": "variance",
    "moving_variance": "variance",
    "bias": "offset",
    "beta": "offset",
    "weight": "scale",
    "gamma": "scale",
    "scale": "scale",
}
"""The meaning of the vectors of a normalisation, by their names on either side."""


def may_be_same(torch_role: str, keras_role: str, shape: Shape) -> bool:
    """Return whether a torch tensor may become a Keras variable: a mean does not become a scale, nor a scale an offset.

    Args:
        torch_role: What the torch layer calls the tensor.
        keras_role: What the Keras layer calls the variable.
        shape: The shape of the torch tensor; only vectors are told apart.
    """
    names = torch_role.rpartition(".")[2], keras_role.rpartition("/")[2]
    meanings = {_MEANINGS.get(name) for name in names}
    return len([size for size in shape if size != 1]) != 1 or None in meanings or len(meanings) == 1
