"""Convert the resizing of images and sequences: nearest, linear and cubic interpolation."""

from typing import Any

from keras3conv.builder.program.program import Value
from keras3conv.builder.to_keras.call import Call, Result, handles, ops
from keras3conv.builder.to_keras.forms import Constant
from keras3conv.builder.to_keras.operations_indexing import taken_along
from keras3conv.errors import RuleError
from keras3conv.model.graph import Size

_AXES = "abcdefg"


def _scales(call: Call, rank: int) -> list[float | None]:
    """Return the scale factor of a resize for each spatial axis; None for an axis with a given target size."""
    given = call.get("scale_factors")
    if given is not None:
        return [float(one) for one in given]
    return [call.get(f"scales_{axis}", call.get("scales")) for axis in ("d", "h", "w")[-rank:]]


def _image(call: Call) -> Value:
    value = call.value("self") if "self" in call.arguments else call.value("input")
    return call.writer.ordered(value, call.writer.image_order(value.rank))


def _fixed(call: Call, value: Value) -> list[tuple[int, int]]:
    """Return the old and the new size of each spatial axis of a resized image; raise `RuleError` if one is dynamic."""
    pairs = list(zip(value.shape[2:], call.shape[2:], strict=True))
    if any(isinstance(one, Size) for pair in pairs for one in pair):
        raise RuleError(
            f"{call.name} needs images of a fixed size, but a spatial axis of its input or output is dynamic"
        )
    return pairs  # type: ignore[return-value]


@handles("upsample_nearest1d", "upsample_nearest2d", "upsample_nearest3d")
@handles("_upsample_nearest_exact1d", "_upsample_nearest_exact2d", "_upsample_nearest_exact3d")
def _nearest(call: Call) -> Result:
    value, scales = _image(call), _scales(call, len(call.shape) - 2)
    factors = [
        _factor(size, made, scale) for size, made, scale in zip(value.shape[2:], call.shape[2:], scales, strict=True)
    ]
    if all(factors):
        return _upsampled(call, value, factors, {})
    from keras3conv.frameworks.torch.resizing import nearest

    is_exact = "exact" in call.name
    for axis, ((size, made), scale) in enumerate(zip(_fixed(call, value), scales, strict=True), 2):
        places = nearest(size, made, is_exact=is_exact, scale=scale)
        value = taken_along(
            call, value, axis, Constant(name=f"{call.node.outputs[0].name} {axis}", array=places, shape=(made,))
        )
    return value


def _factor(size: int | Size, new_size: int | Size, scale: float | None) -> int:
    """Return the integer by which a resize multiplies the size of an axis; 0 if the factor is not an integer.

    Args:
        size: The size before.
        new_size: The size after the resize.
        scale: The scale factor in the call; None if the call has a target size instead.
    """
    if isinstance(size, int) and isinstance(new_size, int):
        return new_size // size if new_size % size == 0 and scale in (None, new_size / size) else 0
    return int(scale) if scale is not None and scale == int(scale) else 0


def _upsampled(call: Call, value: Value, factors: list[int], options: dict[str, Any]) -> Value:
    made = call.writer.new(call.shape, value.order, value.dtype)
    rank = len(factors)
    config: dict[str, Any] = {"size": tuple(factors) if rank > 1 else factors[0], **options}
    if value.order[1] == 1 and rank > 1:
        config["data_format"] = "channels_first"
    if value.order[1] == 1 and rank == 1:  # an UpSampling1D repeats the second axis
        return call.step(ops.repeat(value, factors[0], axis=2), order=value.order)
    call.writer.layer(f"keras.layers.UpSampling{rank}D", config, value, (), call.node.path, made)
    return made


@handles("upsample_linear1d", "upsample_bilinear2d", "upsample_bicubic2d", "upsample_trilinear3d")
@handles("_upsample_bilinear2d_aa", "_upsample_bicubic2d_aa")
def _smooth(call: Call) -> Result:
    value, scales = _image(call), _scales(call, len(call.shape) - 2)
    aligned = bool(call.get("align_corners", False))
    pairs = list(zip(value.shape[2:], call.shape[2:], strict=True))
    factors = [_factor(size, made, scale) for (size, made), scale in zip(pairs, scales, strict=True)]
    if call.name == "upsample_bilinear2d" and all(factors) and not aligned:
        return _upsampled(call, value, factors, {"interpolation": "bilinear"})
    from keras3conv.frameworks.torch.resizing import weights

    kind = f"{'bicubic' if 'bicubic' in call.name else 'linear'}{'_aa' if call.name.endswith('_aa') else ''}"
    for axis, ((size, made), scale) in enumerate(zip(_fixed(call, value), scales, strict=True), 2):
        if size != made:
            matrix = weights(kind, size, made, align_corners=aligned, scale=scale)
            value = _along(
                call,
                value,
                axis,
                Constant(name=f"resize_{made}_{size}_{kind}_{aligned}_{scale}", array=matrix, shape=(made, size)),
            )
    return value


def _along(call: Call, value: Value, axis: int, matrix: Constant) -> Value:
    """Return a value in which each vector along one axis is multiplied by a matrix.

    Args:
        call: The call.
        value: The value.
        axis: The axis, in torch's order.
        matrix: The matrix, of shape (new size, old size).
    """
    letters = "".join(_AXES[one] for one in value.order)
    equation = f"{letters},z{_AXES[axis]}->{letters.replace(_AXES[axis], 'z')}"
    shape = tuple(matrix.shape[0] if one == axis else size for one, size in enumerate(value.shape))
    return call.step(ops.einsum(equation, value, call.writer.value(matrix)), shape, value.order, value.dtype)
