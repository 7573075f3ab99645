"""List the functions of TensorFlow that are translated: each with its counterpart in `keras.ops` and its arguments."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from keras3conv.rules.operations import OPERATIONS

OWN = "tensorflow."
"""The prefix in the table of functions that keras3conv implements itself, because `keras.ops` lacks them."""


@dataclass(frozen=True, kw_only=True)
class Operation:
    """The translation of a TensorFlow function to a function of `keras.ops`.

    Attributes:
        name: The function in `keras.ops`; with the prefix `OWN` a function of this package.
        arguments: The parameter names of TensorFlow in their order, each with its name in `keras.ops`.
        fixed: Further arguments for `keras.ops`, whose defaults differ from those of TensorFlow.
    """

    name: str
    arguments: Mapping[str, str]
    fixed: Mapping[str, Any] = field(default_factory=dict)


def _operation(name: str, arguments: str, **fixed: Any) -> Operation:
    pairs = (one.partition(":") for one in arguments.split())
    return Operation(name=name, arguments={first: second or first for first, _, second in pairs}, fixed=fixed)


def _own(name: str, arguments: str) -> Operation:
    return _operation(f"{OWN}{name}", arguments)


def _in_the_table() -> Iterator[tuple[str, Operation]]:
    """Yield the name of each TensorFlow function in the table `OPERATIONS`, with its translation to `keras.ops`."""
    for entry in OPERATIONS:
        for written in entry.tensorflow:
            name, *parameters = written.split()
            arguments = dict(zip(parameters, entry.keras_parameters, strict=False))  # TensorFlow's ELU has no alpha
            # GELU is exact by default in TensorFlow.
            fixed = {"approximate": False} if "approximate" in arguments else {}
            yield name, Operation(name=entry.keras[0].removeprefix("keras.ops."), arguments=arguments, fixed=fixed)


_OF_SIZES: Mapping[str, Operation] = {
    **dict.fromkeys(("compat.v1.shape", "shape"), _own("shape", "input:x")),
    "zeros": _own("zeros", "shape dtype"),
    "ones": _own("ones", "shape dtype"),
    "fill": _own("fill", "dims value"),
    "range": _own("range", "start limit delta dtype"),
    "linspace": _own("linspace", "start stop num axis"),
    "eye": _own("eye", "num_rows num_columns batch_shape dtype"),
    "sequence_mask": _own("sequence_mask", "lengths maxlen dtype"),
    "linalg.band_part": _own("band_part", "input:x num_lower num_upper"),
    "ensure_shape": _own("ensure_shape", "x shape"),
}  # fmt: skip
"""The functions that return sizes, and those that create a tensor of given sizes."""

_OF_VALUES: Mapping[str, Operation] = {
    "roll": _operation("roll", "input:x shift axis"),
    "reverse": _operation("flip", "tensor:x axis"),
    "repeat": _own("repeat", "input:input_ repeats axis"),
    "sort": _own("sort", "values axis direction"),
    "argsort": _own("argsort", "values axis direction stable"),
    "math.top_k": _own("top_k", "input:x k"),
    "tensordot": _operation("tensordot", "a:x1 b:x2 axes"),
    "math.count_nonzero": _own("count_nonzero", "input:x axis keepdims dtype"),
    "math.log_sigmoid": _operation("log_sigmoid", "x"),
    "math.rint": _operation("round", "x"),
    "math.xlogy": _own("xlogy", "x y"),
    "math.reciprocal_no_nan": _own("reciprocal_no_nan", "x"),
    "math.multiply_no_nan": _own("multiply_no_nan", "x y"),
    **dict.fromkeys(("math.scalar_mul", "compat.v1.math.scalar_mul"), _operation("multiply", "scalar:x1 x:x2")),
    "realdiv": _operation("divide", "x:x1 y:x2"),
    "clip_by_norm": _own("clip_by_norm", "t clip_norm axes"),
    "compat.v1.nn.crelu": _own("crelu", "features axis"),
    "nn.crelu": _own("crelu", "features axis"),
    "linalg.matrix_transpose": _own("matrix_transpose", "a"),
    "linalg.diag_part": _own("diag_part", "input:x"),
    "linalg.trace": _own("trace", "x"),
    "keras.backend.batch_flatten": _own("batch_flatten", "x"),
    "dtypes.saturate_cast": _own("saturate_cast", "value:x dtype"),
}  # fmt: skip
"""Further functions of the values of a tensor."""

_OF_IMAGES: Mapping[str, Operation] = {
    "image.rgb_to_grayscale": _own("rgb_to_grayscale", "images"),
    "image.grayscale_to_rgb": _own("grayscale_to_rgb", "images"),
    "image.per_image_standardization": _own("per_image_standardization", "image"),
    "image.adjust_brightness": _own("adjust_brightness", "image delta"),
    "image.adjust_contrast": _own("adjust_contrast", "images contrast_factor"),
    "image.convert_image_dtype": _own("convert_image_dtype", "image dtype saturate"),
    "image.central_crop": _own("central_crop", "image central_fraction"),
    "image.crop_to_bounding_box": _own(
        "crop_to_bounding_box", "image offset_height offset_width target_height target_width"
    ),
    "image.pad_to_bounding_box": _own(
        "pad_to_bounding_box", "image offset_height offset_width target_height target_width"
    ),
    "image.resize_with_crop_or_pad": _own("resize_with_crop_or_pad", "image target_height target_width"),
    "image.extract_patches": _own("extract_patches", "images sizes strides rates padding"),
    "image.transpose": _own("transpose_image", "image"),
    "image.rot90": _own("rot90", "image k"),
    "compat.v1.nn.max_pool": _own("max_pool", "value:inputs ksize strides padding"),
    **dict.fromkeys(
        ("nn.conv2d", "compat.v1.nn.conv2d", "nn.conv1d", "compat.v1.nn.conv1d"),
        _own("conv", "input:inputs filter:kernel filters:kernel stride:strides strides padding dilations"),
    ),
    **dict.fromkeys(
        ("nn.depthwise_conv2d", "compat.v1.nn.depthwise_conv2d"),
        _own("depthwise_conv", "input:inputs filter:kernel strides padding dilations rate:dilations"),
    ),
    "nn.local_response_normalization": _own(
        "local_response_normalization", "input:x depth_radius bias alpha beta"
    ),
}  # fmt: skip
"""The functions of images, which are channels-last."""

_REDUCTION = "input_tensor:x axis keepdims"

FUNCTIONS: Mapping[str, Operation] = {
    **dict(_in_the_table()),
    "math.divide_no_nan": _operation("divide_no_nan", "x:x1 y:x2"),
    **{
        f"math.reduce_{name}": _operation(name, _REDUCTION)
        for name in ("mean", "sum", "max", "min", "prod", "std", "any", "all")
    },
    "math.reduce_variance": _operation("var", _REDUCTION),
    "math.reduce_logsumexp": _operation("logsumexp", _REDUCTION),
    "math.reduce_euclidean_norm": _own("norm", "input_tensor:tensor axis keepdims"),
    "norm": _own("norm", "tensor axis keepdims"),
    "compat.v1.norm": _own("norm", "tensor axis keepdims"),
    "math.argmax": _own("argmax", "input:x axis output_type"),
    "math.argmin": _own("argmin", "input:x axis output_type"),
    "math.l2_normalize": _own("l2_normalize", "x axis epsilon"),
    "nn.l2_normalize": _own("l2_normalize", "x axis epsilon"),
    "math.squared_difference": _own("squared_difference", "x y"),
    "math.add_n": _own("add_n", "inputs"),
    "compat.v1.floor_div": _operation("floor_divide", "x:x1 y:x2"),
    "nn.bias_add": _operation("add", "value:x1 bias:x2"),
    "split": _own("split", "value num_or_size_splits axis"),
    "unstack": _own("unstack", "value num axis"),
    "compat.v1.pad": _own("pad", "tensor paddings mode constant_values"),
    "pad": _own("pad", "tensor paddings mode constant_values"),
    **dict.fromkeys(("compat.v1.gather", "gather"), _own("gather", "params indices axis batch_dims")),
    **dict.fromkeys(("compat.v1.gather_nd", "gather_nd"), _own("gather_nd", "params indices batch_dims")),
    **dict.fromkeys(("nn.embedding_lookup", "compat.v1.nn.embedding_lookup"), _own("gather", "params ids:indices")),
    "image.flip_left_right": _own("flip_left_right", "image"),
    "image.flip_up_down": _own("flip_up_down", "image"),
    "nn.max_pool2d": _own("max_pool", "input:inputs ksize strides padding"),
    "nn.avg_pool2d": _own("average_pool", "input:inputs ksize strides padding"),
    "compat.v1.nn.avg_pool": _own("average_pool", "value:inputs ksize strides padding"),
    "convert_to_tensor": _operation("copy", "value:x"),
    "math.round": _operation("round", "x"),
    "math.atan2": _operation("arctan2", "y:x1 x:x2"),
    "math.cumsum": _own("cumsum", "x axis exclusive reverse"),
    "math.cumprod": _own("cumprod", "x axis exclusive reverse"),
    "concat": _operation("concatenate", "values:xs axis"),
    "stack": _operation("stack", "values:x axis"),
    "reshape": _operation("reshape", "tensor:x shape:newshape"),
    "transpose": _operation("transpose", "a:x perm:axes"),
    "compat.v1.transpose": _operation("transpose", "a:x perm:axes"),
    "expand_dims": _operation("expand_dims", "input:x axis"),
    "compat.v1.expand_dims": _operation("expand_dims", "input:x axis"),
    "squeeze": _operation("squeeze", "input:x axis"),
    "compat.v1.squeeze": _operation("squeeze", "input:x axis"),
    "cast": _operation("cast", "x dtype"),
    "identity": _operation("copy", "input:x"),
    "stop_gradient": _operation("stop_gradient", "input:variable"),
    "tile": _own("tile", "input:input_ multiples"),
    "where": _operation("where", "condition x:x1 y:x2"),
    "zeros_like": _operation("zeros_like", "input:x"),
    "ones_like": _operation("ones_like", "input:x"),
    "broadcast_to": _own("broadcast_to", "input:input_ shape"),
    "clip_by_value": _operation("clip", "t:x clip_value_min:x_min clip_value_max:x_max"),
    "linalg.matmul": _own("matmul", "a b transpose_a transpose_b"),
    "one_hot": _own("one_hot", "indices depth on_value off_value axis dtype"),
    "nn.depth_to_space": _operation("depth_to_space", "input:x block_size data_format", data_format="channels_last"),
    "nn.space_to_depth": _operation("space_to_depth", "input:x block_size data_format", data_format="channels_last"),
    "compat.v1.nn.depth_to_space": _operation("depth_to_space", "input:x block_size", data_format="channels_last"),
    "image.resize": _own("resize", "images size method antialias"),
    **_OF_SIZES,
    **_OF_VALUES,
    **_OF_IMAGES,
}  # fmt: skip
"""The translation of each TensorFlow function, by its name in `TFOpLambda`."""

_LOST = "the file does not store the tensors that it was called with, only the equation"
_RANDOM = "it draws random numbers in inference mode too, so that no two runs of the model agree"
_REASONS = {
    "einsum": _LOST,
    **{f"random.{name}": _RANDOM for name in ("normal", "uniform", "truncated_normal", "gamma", "poisson", "shuffle")},
    "nn.dropout": "with a rate, it drops values in inference mode too",
}


def refusal(function: str) -> str:
    """Return the reason for which a function of TensorFlow is refused, such as "tf.einsum between the layers ...".

    Args:
        function: The name of a function that is not in `FUNCTIONS`.
    """
    reason = _REASONS.get(function)
    return f"tf.{function} between the layers " + (
        f"cannot be converted: {reason}" if reason else "has no known counterpart in keras.ops"
    )


def is_ignored(name: str, value: Any) -> bool:
    """Return whether an argument of a function of TensorFlow has a value that changes nothing.

    Args:
        name: The name of the argument, which the function of `keras.ops` lacks.
        value: Its value in the file.
    """
    known = _IGNORED.get(name, ())
    return value is None or any(type(value) is type(one) and value == one for one in known)


RESIZED_ALIKE = ("bilinear", "nearest", "bicubic")
"""The interpolation methods of `tf.image.resize` that can be computed on all backends of Keras 3."""

_IGNORED: Mapping[str, tuple[Any, ...]] = {
    "conjugate": (False,), "adjoint_a": (False,), "adjoint_b": (False,), "a_is_sparse": (False,),
    "b_is_sparse": (False,), "beta": (1.0,), "exclusive": (False,), "reverse": (False,),
    "preserve_aspect_ratio": (False,), "antialias": (False,), "dtype": (None,), "output_type": (None,),
    "data_format": (None, "NHWC", "NWC", "NDHWC"), "ord": ("euclidean",), "batch_dims": (None, 0),
    "validate_indices": (None, True, False), "num": (None,), "half_pixel_centers": (True,), "dtype_hint": (None,),
    "out_type": (None, "int32"), "use_cudnn_on_gpu": (True, False), "bad_indices_policy": (None, ""),
    "max_norm": (None,), "partition_strategy": ("mod", "div"), "layout": (None,), "sorted": (True,),
    "index_type": ("int32",),
}  # fmt: skip
"""The TensorFlow arguments that `keras.ops` lacks, each with the values that change nothing."""
