"""Convert normalizations over the batch, over groups of channels, and over the last axes."""

from functools import partial

from keras3conv.builder.program.program import Order, Value
from keras3conv.builder.to_keras.broadcasting import elementwise, sign
from keras3conv.builder.to_keras.call import Call, LayerCall, Result, handles, ops
from keras3conv.builder.to_keras.operations_axes import reshaped
from keras3conv.builder.to_keras.operations_layers import last_axes_in_place
from keras3conv.errors import RuleError
from keras3conv.rules.rule import Config


def _has_affine(call: Call) -> bool:
    """Return whether a normalization has a scale and a shift; raise `RuleError` if it has only one of the two."""
    weight, bias = call.get("weight"), call.get("bias")
    if (weight is None) != (bias is None):
        raise RuleError(f"{call.name} has only one of weight and bias, but the Keras layer has both or none")
    return weight is not None


@handles("batch_norm", "_native_batch_norm_legit_no_training")
def _batch_norm(call: Call) -> Result:
    if call.get("training", False):
        if all(isinstance(size, int) for size in call.shape):
            return _standardized(call)
        raise RuleError(
            "this batch normalization uses the statistics of the batch in evaluation mode too, but Keras uses moving "
            "statistics there; set track_running_stats=True"
        )
    given, mean = call.value("input"), call.held("running_mean")
    assert mean is not None
    config = {
        "num_features": mean.shape[0],
        "eps": call.arguments["eps"],
        "momentum": call.arguments["momentum"],
        "affine": _has_affine(call),
        "track_running_stats": True,
    }
    kind = f"BatchNorm{max(given.rank - 2, 1)}d"
    order = call.writer.image_order(given.rank)
    made = _layer(call, kind, ("BatchNormalization",), config, order=order, input_name="input")
    return made if call.name == "batch_norm" else [made, None, None]


def _standardized(call: Call) -> Value:
    """Convert a batch normalization of a tensor that depends on no sample, such as a kernel: write out its formula."""
    given = call.value("input")
    axes = tuple(place for place, axis in enumerate(given.order) if axis != 1)
    mean = ops.mean(given, axis=axes, keepdims=True)
    variance = ops.var(given, axis=axes, keepdims=True)
    made = call.step((given - mean) / ops.sqrt(variance + call.arguments["eps"]), order=given.order)
    for name, symbol in (("weight", "*"), ("bias", "+")):
        if call.get(name) is not None:
            shape = (given.shape[1], *(1,) * (given.rank - 2))
            factor = reshaped(call, call.value(name), shape)
            made = elementwise(call, [made, factor], partial(sign, call, symbol))
    return made


@handles("instance_norm")
def _instance_norm(call: Call) -> Result:
    if not call.get("use_input_stats", True):
        raise RuleError(
            "this instance normalization uses running statistics, which Keras does not have; set "
            "track_running_stats=False"
        )
    given = call.value("input")
    config = {
        "num_features": given.shape[1],
        "eps": call.arguments["eps"],
        "affine": _has_affine(call),
        "track_running_stats": False,
    }
    order = call.writer.image_order(given.rank)
    kind = f"InstanceNorm{given.rank - 2}d"
    return _layer(call, kind, ("GroupNormalization",), config, order=order, input_name="input")


@handles("group_norm")
def _group_norm(call: Call) -> Result:
    given = call.value("input")
    config = {
        "num_groups": call.arguments["num_groups"],
        "num_channels": given.shape[1],
        "eps": call.get("eps", 1e-5),
        "affine": _has_affine(call),
    }
    order = call.writer.image_order(given.rank)
    return _layer(call, "GroupNorm", ("GroupNormalization",), config, order=order, input_name="input")


@handles("layer_norm")
def _layer_norm(call: Call) -> Result:
    given, shape = call.value("input"), tuple(call.arguments["normalized_shape"])
    weight, bias = call.get("weight"), call.get("bias")
    if weight is None and bias is not None:
        raise RuleError(
            "this layer_norm has a bias but no weight, which Keras does not support; give it a weight of ones"
        )
    config = {
        "normalized_shape": shape,
        "eps": call.get("eps", 1e-5),
        "elementwise_affine": weight is not None,
        "bias": bias is not None,
    }
    order = last_axes_in_place(given, len(shape))
    return _layer(call, "LayerNorm", ("LayerNormalization",), config, order=order, input_name="input")


@handles("rms_norm")
def _rms_norm(call: Call) -> Result:
    given, shape = call.value("input"), tuple(call.arguments["normalized_shape"])
    config = {
        "normalized_shape": shape,
        "eps": call.get("eps", None),
        "elementwise_affine": call.get("weight") is not None,
    }
    order = last_axes_in_place(given, len(shape))
    return _layer(call, "RMSNorm", ("RMSNormalization",), config, order=order, input_name="input")


def _layer(call: Call, kind: str, keras: tuple[str, ...], config: Config, *, order: Order, input_name: str) -> Value:
    """Add the calls of the Keras layers that compute a torch layer, and return their output.

    Args:
        call: The call of the operator that computes the torch layer.
        kind: The class of the torch layer, such as "Linear".
        keras: The beginnings of the names of the Keras classes that may compute it: ("Dense", "EinsumDense").
        config: The configuration of the torch layer.
        order: The axis order that the Keras layer needs for its input.
        input_name: The name of the operator's argument that is the input, such as "input".
    """
    tensors = {role: call.held(role) for role in ("weight", "bias", "running_mean", "running_var")}
    held = {role: tensor for role, tensor in tensors.items() if tensor is not None}
    layer = LayerCall(kind=f"torch.nn.{kind}", keras=keras, config=config, tensors=held, order=order)
    return call.writer.by_rule(layer, call.value(input_name), call.node.outputs[0])
