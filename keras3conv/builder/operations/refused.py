"""List the Keras operations and layers that cannot be converted, with reasons.

Also list the functions of `keras.ops` that are never calls in a graph, because they compute at once, with reasons.
"""

from functools import partial

from keras3conv.builder.operations.call import HANDLERS, Call, handles
from keras3conv.builder.operations.library import load
from keras3conv.rules.composed import COMPOSED

_REASONS: dict[str, tuple[str, ...]] = {
    "tensors of complex numbers are not supported in a conversion to torch; Keras' fft, rfft and stft, which return "
    "the real and the imaginary part, are": ("imag", "polar", "view_as_complex", "view_as_real"),
    "it repeats a function as often as the values say; write a loop with a fixed number of steps, which is traced": (
        "fori_loop", "while_loop",
    ),
    "it computes the derivative of a function, which a traced graph does not have": ("jvp",),
    "it is a loss or a metric, not a part of the deployed model": (
        "binary_crossentropy", "categorical_crossentropy", "corrcoef", "ctc_decode", "ctc_loss", "image.ssim",
        "in_top_k", "psnr", "sparse_categorical_crossentropy", "allclose",
    ),
    "the size of its result depends on the values of the tensor": ("bincount", "histogram", "nonzero", "unique"),
    "its result is not unique: signs and order differ between the libraries that Keras calls": (
        "argpartition", "eig", "lu_factor",
    ),
    "its result depends on rounding, which differs between frameworks": ("matrix_rank",),
    "it is for data with missing values; fill them with nan_to_num or where": (
        "nanargmax", "nanargmin", "nancumprod", "nancumsum", "nanmax", "nanmedian", "nanmin", "nanpercentile",
        "nanprod", "nanquantile", "nanstd", "nanvar",
    ),
    "it prepares or augments images before training; it belongs to the data, not to the model": (
        "image.elastic_transform", "image.perspective_transform", "image.scale_and_translate",
    ),
    "its arguments start and stop are tensors, which is not supported; use numbers": ("geomspace", "logspace"),
    "its result differs between Keras' backends; use keras.ops.clip and keras.ops.cast": ("saturate_cast",),
    "it reinterprets the bits of numbers, which is not supported": ("view",),
    "its conversion is not implemented yet; write it with other functions of keras.ops": (
        "correlate",
    ),
}  # fmt: skip

_LAYERS: dict[str, tuple[str, ...]] = {
    "it looks up words and categories: run it on the data, before the model": (
        "HashedCrossing", "Hashing", "IntegerLookup", "StringLookup", "TextVectorization",
    ),
    "it crops images at random in training: run it on the data, and convert the model that comes after it": (
        "RandomCrop",
    ),
}  # fmt: skip

REFUSED_LAYERS: dict[str, str] = {f"keras.layers.{name}": reason for reason, names in _LAYERS.items() for name in names}
"""For each layer that only prepares data, and so cannot be converted, by class name: the reason in the error."""

REFUSED: dict[str, str] = {f"keras.ops.{name}": reason for reason, names in _REASONS.items() for name in names}
"""For each operation that cannot be converted: the reason, by its public name ("keras.ops.qr"), for the error message.
"""


def refusal(kind: str) -> str:
    """Return why no call of a Keras operation or layer ("keras.ops.qr") can be converted; "" if some calls can."""
    reason = REFUSED.get(kind) or REFUSED_LAYERS.get(kind)
    if reason:
        return f"{kind}: {reason}"
    load()
    return (
        (f"{kind}: this function of Keras is not known to keras3conv")
        if kind.startswith("keras.ops.") and kind not in HANDLERS and kind not in COMPOSED
        else ""
    )


def _refused(call: Call, *, reason: str) -> None:
    raise call.refuse(reason)


for _kind, _reason in {**REFUSED, **REFUSED_LAYERS}.items():
    handles(_kind)(partial(_refused, reason=_reason))
