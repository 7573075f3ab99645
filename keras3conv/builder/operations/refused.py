"""Operations that are not written in torch, and why; and functions of `keras.ops` that are no calls of a model."""

from functools import partial

from keras3conv.builder.operations.call import HANDLERS, Call, handles
from keras3conv.builder.operations.library import load

_REASONS: dict[str, tuple[str, ...]] = {
    "complex numbers are not supported: Keras' layers have none": (
        "fft", "fft2", "ifft2", "imag", "irfft", "istft", "polar", "rfft", "stft", "view_as_complex", "view_as_real",
    ),
    "it runs code of its own that is not part of the graph; write a layer and register a rule for it": (
        "associative_scan", "cond", "fori_loop", "jvp", "map", "scan", "switch", "vectorized_map", "while_loop",
    ),
    "it is a loss or a measure, no part of the model that is deployed": (
        "binary_crossentropy", "categorical_crossentropy", "corrcoef", "ctc_decode", "ctc_loss", "image.ssim",
        "in_top_k", "psnr", "sparse_categorical_crossentropy", "allclose",
    ),
    "the size of what it returns depends on the values": ("bincount", "histogram", "nonzero", "unique"),
    "what it returns is not unique: signs and order differ between the libraries that Keras calls": (
        "argpartition", "eig", "eigh", "lstsq", "lu_factor", "qr", "slogdet", "svd",
    ),
    "Keras' backends fill segments without values with different numbers": (
        "segment_max", "segment_min", "segment_prod",
    ),
    "how numbers are rounded decides what it returns": ("matrix_rank",),
    "it is for data with gaps; fill them with nan_to_num or where": (
        "nanargmax", "nanargmin", "nancumprod", "nancumsum", "nanmax", "nanmedian", "nanmin", "nanpercentile",
        "nanprod", "nanquantile", "nanstd", "nanvar",
    ),
    "it prepares or changes images before training; it belongs to the data, not to the model": (
        "image.affine_transform", "image.elastic_transform", "image.gaussian_blur", "image.hsv_to_rgb",
        "image.map_coordinates", "image.perspective_transform", "image.rgb_to_hsv", "image.scale_and_translate",
        "image.sobel_edges",
    ),
    "as a function it has no torch kernel that stays one parameter; use the layer of this name": ("conv_transpose",),
    "ends that are tensors are not supported": ("geomspace", "linspace", "logspace"),
    "it is a number that Python knows: use the shape of the tensor": ("ndim", "size"),
    "it reads the bits of numbers as another dtype, or limits them differently on each of Keras' backends": (
        "saturate_cast", "view",
    ),
    "not yet: nothing is known to be in its way": (
        "correlate", "extract_sequences", "rearrange", "trapezoid", "unravel_index", "vander",
    ),
}  # fmt: skip

_LAYERS: dict[str, tuple[str, ...]] = {
    "it looks up or counts words and categories, which is no arithmetic: run it before the model, on the data": (
        "CategoryEncoding", "Discretization", "HashedCrossing", "Hashing", "IntegerLookup", "StringLookup",
        "TextVectorization",
    ),
    "it changes images at random in training: run it before the model, on the data, and convert the model after it": (
        "AugMix", "CutMix", "MixUp", "RandAugment", "RandomBrightness", "RandomColorDegeneration", "RandomColorJitter",
        "RandomContrast", "RandomCrop", "RandomElasticTransform", "RandomErasing", "RandomFlip", "RandomGaussianBlur",
        "RandomGrayscale", "RandomHue", "RandomInvert", "RandomPerspective", "RandomPosterization", "RandomRotation",
        "RandomSaturation", "RandomSharpness", "RandomShear", "RandomTranslation", "RandomZoom",
    ),
}  # fmt: skip

REFUSED_LAYERS: dict[str, str] = {f"keras.layers.{name}": reason for reason, names in _LAYERS.items() for name in names}
"""Why a layer that prepares data is refused, by its class name."""

REFUSED: dict[str, str] = {f"keras.ops.{name}": reason for reason, names in _REASONS.items() for name in names}
"""Why an operation is refused, by its public name."""

NO_CALLS: dict[str, str] = {
    **dict.fromkeys(
        ("bartlett", "blackman", "empty", "hamming", "hanning", "kaiser"),
        "is computed while the model is read, and becomes a constant",
    ),
    **dict.fromkeys(("dtype", "is_tensor", "shape"), "is answered while the model is read"),
    **dict.fromkeys(("hard_swish", "swish"), "is another name: hard_silu, silu"),
    **dict.fromkeys(("custom_gradient", "vectorize"), "is followed into what it calls"),
    "convert_to_numpy": "needs values: there are none while a model is read",
    "image.extract_patches_3d": "is refused: only patches of images are supported",
}
"""Functions of `keras.ops` that are no operation of a graph, by their names in it."""


def refusal(kind: str) -> str:
    """Why no layer or operation of this class is ever written, whatever it is given; empty if it may be."""
    reason = REFUSED.get(kind) or REFUSED_LAYERS.get(kind)
    if reason:
        return f"{kind}: {reason}"
    load()
    return f"no handler is known for {kind}" if kind.startswith("keras.ops.") and kind not in HANDLERS else ""


def _refused(call: Call, *, reason: str) -> None:
    raise call.refuse(reason)


for _kind, _reason in {**REFUSED, **REFUSED_LAYERS}.items():
    handles(_kind)(partial(_refused, reason=_reason))


__all__ = ["NO_CALLS", "REFUSED", "REFUSED_LAYERS", "refusal"]
