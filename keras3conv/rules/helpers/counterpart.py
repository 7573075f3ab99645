"""Read the paired Keras layer and the input shapes from the configuration that a rule receives.

A torch layer alone may not determine its Keras layer: a Linear does not store the number of heads into which its
outputs are split, a PReLU does not store the number of its input axes. So the configuration also has the Keras layer, a
`LayerSpec`, under "keras", and the shapes of the inputs under "inputs", if they are known.
"""

from collections.abc import Iterator

from keras3conv.errors import RuleError
from keras3conv.rules.rule import Config, LayerSpec, WeightMapping
from keras3conv.transforms import Drop, Shape, Transform

_ROLES = ("weight", "gamma", 1), ("bias", "beta", 0)


def counterpart(config: Config) -> LayerSpec | None:
    """Return the Keras layer that is paired with a torch layer; None in a conversion, which creates it later.

    Args:
        config: The configuration of the torch layer, with the Keras layer under "keras".
    """
    found = config.get("keras")
    return found if isinstance(found, LayerSpec) else None


def input_rank(config: Config) -> int | None:
    """Return the number of input axes of the torch layer, batch included; None if unknown."""
    inputs: tuple[Shape, ...] = config.get("inputs") or ()
    return len(inputs[0]) if inputs else None


def counterpart_shapes(config: Config, role: str, count: int) -> tuple[Shape, ...] | None:
    """Return the shape of one variable in each of the Keras layers that are paired with a torch layer.

    Return None if no Keras layers are paired with it yet. Raise `RuleError` if one of them has no such variable.

    Args:
        config: The configuration of the torch layer, with the Keras layers, combined into one, under "keras".
        role: The role of the variable, such as "kernel".
        count: The number of paired Keras layers.
    """
    keras = counterpart(config)
    if keras is None:
        return None
    missing = [place for place in range(count) if f"{place}/{role}" not in keras.shapes]
    if missing:
        raise RuleError(
            f"the shape of the {role} of Keras layer {missing[0]} in this pair ({keras.kind}) is unknown; build the "
            "model by one call, or give inputs=..."
        )
    return tuple(keras.shapes[f"{place}/{role}"] for place in range(count))


def affine_weights(config: Config, transform: Transform) -> Iterator[WeightMapping]:
    """Yield the mappings of a normalisation's weight (gamma in Keras) and bias (beta).

    If the Keras layer has no gamma, torch's weight gets ones from it; if it has no beta, torch's bias gets zeros.

    Args:
        config: The configuration of the torch layer; with bias=False the torch layer has no bias.
        transform: The transform of both tensors.
    """
    keras = counterpart(config)
    shapes = {role: keras.shapes[role] for _, role, _ in _ROLES if keras and role in keras.shapes}
    for torch, role, value in _ROLES:
        if not shapes or role in shapes:
            yield WeightMapping(torch=(torch,), keras=(role,), transform=transform)
        elif torch != "bias" or config.get("bias", True):
            (other,) = shapes.values()
            (shape,) = transform.inverse.shapes((other,))
            yield WeightMapping(torch=(torch,), keras=(), transform=Drop(value, shape))
