"""Convert normalizations: the functions of `keras.ops`, and a BatchNormalization with a mask."""

from keras3conv.builder.operations.call import Call, handles
from keras3conv.builder.operations.expressions import (
    F,
    axes_of,
    fixed,
)
from keras3conv.builder.program.names import OWN_LAYERS
from keras3conv.builder.program.program import Value


@handles("keras.ops.batch_normalization")
def _batch_normalization(call: Call) -> None:
    given, axis = call["x"], call["axis"]
    if not isinstance(axis, int) or given.rank < 2 or any(call[name].rank != 1 for name in ("mean", "variance")):
        raise call.refuse(
            f"batch_normalization with axis={axis} is not supported: it must be one axis, and mean and variance must "
            "be vectors"
        )
    axis %= given.rank
    if axis == 0:
        raise call.refuse("batch_normalization along the batch axis (axis=0) is not supported: choose another axis")
    if given.position(axis) != 1 or given.position(0) != 0:
        given = call.order(given, (0, axis, *(one for one in range(1, given.rank) if one != axis)))
    settings = {**_optional(call, weight="scale", bias="offset"), "eps": call["epsilon"]}
    call.returns(F.batch_norm(given, call["mean"], call["variance"], **settings), given.order)


@handles("keras.layers.BatchNormalization")
def _batch_normalization_layer(call: Call) -> None:
    """Convert a BatchNormalization; with a mask, to the module that leaves masked steps out of the batch statistics."""
    mask = call.get("mask")
    if mask is None:
        call.builder.by_rule(call)
        return
    given = call["inputs"]
    last = given.rank - 1
    if call.get("axis", -1) not in (-1, last):
        raise call.refuse("a mask is supported only for a BatchNormalization with axis=-1")
    given = call.order(given, (0, last, *range(1, last)))
    if call.get("trainable", True):
        made = call.builder.rule_module(call, f"{OWN_LAYERS}.MaskedBatchNorm")(given, call.keras_order(mask))
    else:  # it uses the moving statistics in training too, and a mask changes nothing
        made = call.builder.rule_module(call, "torch.nn.BatchNorm")(given)
    call.returns(made, given.order)


def _optional(call: Call, **names: str) -> dict[str, Value]:
    """Return the optional tensors of a call that are not None, by torch argument: {"weight": ..., "bias": ...}.

    Args:
        call: The call.
        names: For each argument of torch, the name of the same argument in Keras: weight="gamma".
    """
    return {torch_name: call[name] for torch_name, name in names.items() if call.get(name) is not None}


@handles("keras.ops.layer_normalization", "keras.ops.rms_normalization")
def _layer_normalization(call: Call) -> None:
    given, rank = call["x"], call["x"].rank
    axes = sorted(axes_of(call["axis"], rank))
    is_layer_norm = call.node.kind.endswith("layer_normalization")
    weights = _optional(call, weight="gamma", bias="beta") if is_layer_norm else _optional(call, weight="scale")
    if call.get("rms_scaling"):
        raise call.refuse("rms_scaling=True is not supported, because Keras has removed it; use rms_normalization")
    if any(weight.rank != len(axes) for weight in weights.values()):
        raise call.refuse("the scale and the shift of this normalization must have as many axes as are normalized")
    given = call.order(given, (*(axis for axis in given.order if axis not in axes), *axes))
    sizes = tuple(fixed(call, given.shape[axis], "the size of a normalized axis") for axis in axes)
    epsilon = 1e-7 if call["epsilon"] is None else call["epsilon"]
    function = F.layer_norm if is_layer_norm else F.rms_norm
    call.returns(function(given, sizes, **weights, eps=epsilon), given.order)
