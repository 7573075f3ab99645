"""Find the neutral value of a parameter: zero for a bias, one for the scale of a normalisation.

A layer without the parameter computes the same as a layer in which the parameter has its neutral value. Statistics,
such as a moving average, have no neutral value: a layer without statistics computes them from its input.
"""

from collections.abc import Iterator, Mapping, Sequence

from keras3conv.rules.rule import Rule, WeightMapping
from keras3conv.transforms import Drop, Fill, Shape

_TORCH_OFFSETS = frozenset({"bias", "in_proj_bias", "q_bias", "k_bias", "v_bias", "qkv_bias"})
_TORCH_PACKAGES = ("torch.nn.", "torchvision.", "timm.")


def neutral_in_torch(rule: Rule, role: str) -> int | None:
    """Return the neutral value of the torch tensor with a name in its layer ("bias"); None if it has none.

    Args:
        rule: The rule for the torch layer; its torch class shows whether a weight is a scale.
        role: The name of the tensor in the layer.
    """
    name = role.rpartition(".")[2]
    if name in _TORCH_OFFSETS or name.startswith(("bias_ih", "bias_hh")):
        return 0
    # In other packages, some normalisations add one to their scale, so that its neutral value is zero.
    is_scale = name == "weight" and "Norm" in rule.torch and rule.torch.startswith(_TORCH_PACKAGES)
    return 1 if is_scale else None


def neutral_in_keras(rule: Rule, role: str) -> int | None:
    """Return the neutral value of the Keras variable with a name in its layer ("beta"); None if it has none."""
    name = role.rpartition("/")[2]
    if name in ("bias", "beta"):
        return 0
    return 1 if name in ("gamma", "scale") and "Normalization" in rule.keras else None


def filled(
    rule: Rule, mappings: Sequence[WeightMapping], torch: Mapping[str, Shape], keras: Mapping[str, Shape]
) -> Iterator[WeightMapping]:
    """Yield the weight mappings of two layers; a tensor that only one of them has is mapped to its neutral value.

    A mapping is unchanged if both layers have its tensors, or if the tensor that one of them lacks has no neutral
    value.

    Args:
        rule: The rule that gave the mappings.
        mappings: The mappings; their tensors have their names in the layer ("kernel").
        torch: The shapes of the torch layer's tensors, by name ("weight").
        keras: The shapes of the Keras layer's tensors, by role ("kernel").
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
"""The meaning of each vector of a normalisation: a mean, a variance, a scale or an offset, by torch or Keras name."""


def may_be_same(torch_role: str, keras_role: str, shape: Shape) -> bool:
    """Return False if a torch vector cannot be a Keras variable by name, such as a mean and a scale.

    The known meanings are mean, variance, scale and offset; a name with none of them excludes nothing.

    Args:
        torch_role: The role of the tensor in the torch layer, such as "running_mean".
        keras_role: The role of the variable in the Keras layer, such as "gamma".
        shape: The shape of the torch tensor; if it is not a vector, the result is True.
    """
    names = torch_role.rpartition(".")[2], keras_role.rpartition("/")[2]
    meanings = {_MEANINGS.get(name) for name in names}
    return len([size for size in shape if size != 1]) != 1 or None in meanings or len(meanings) == 1
