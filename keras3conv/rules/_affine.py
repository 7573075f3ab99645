"""The scale and the offset of a norm, of which Keras may have only one where torch has both or none."""

from collections.abc import Iterator

from keras3conv.rule import Config, WeightMapping
from keras3conv.rules._counterpart import counterpart
from keras3conv.transforms import Drop, Transform

_ROLES = ("weight", "gamma", 1), ("bias", "beta", 0)


def affine_weights(config: Config, transform: Transform) -> Iterator[WeightMapping]:
    """The mappings of a weight and a bias; where Keras has only one of the two, the other is ones, or zeros, in torch.

    Args:
        config: The configuration of the torch layer; its `bias` may say that it has none.
        transform: What becomes of the two tensors.
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


__all__ = ["affine_weights"]
