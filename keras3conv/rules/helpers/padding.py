"""Translate the padding of convolutions and pooling between torch and Keras.

Torch pads both ends equally; Keras' padding="same" may pad more at the end. If the padding of one framework has no
equivalent argument in the other, it becomes a separate layer.
"""

from keras3conv.errors import RuleError
from keras3conv.rules.helpers.config import ints, last, pads, require_value
from keras3conv.rules.rule import Config, LayerSpec, LayerSpecs
from keras3conv.transforms import Shape

Pads = tuple[tuple[int, int], ...]
"""The padding at the start and the end of every spatial axis."""

PAD, PAD_LAYER = "keras.ops.pad", "keras3conv.frameworks.keras.layers.Pad"

_KERAS_MODES = {"reflect": "reflect", "replicate": "edge", "circular": "wrap"}
_TORCH_LAYERS = {
    "zeros": "ZeroPad",
    "reflect": "ReflectionPad",
    "replicate": "ReplicationPad",
    "circular": "CircularPad",
}


def same_padding(size: int | None, window: int, stride: int = 1, dilation: int = 1) -> tuple[int, int]:
    """Return the numbers of elements that padding="same" adds at the start and the end of an axis.

    The output then has ceil(size / stride) elements. If the sum is odd, one more is added at the end.

    Args:
        size: The input size along the axis; it may be None if the stride is one, which does not need it.
        window: The size of the kernel or of the pooling window.
        stride: The stride of the kernel or window.
        dilation: The dilation of the kernel.

    Raises:
        RuleError: The padding depends on the size, but the size is None.

    Source: https://www.tensorflow.org/api_docs/python/tf/nn#notes_on_padding_2
    """
    reach = dilation * (window - 1)
    if stride == 1:
        total = reach
    elif size is None:
        raise RuleError(
            f'padding="same" with strides={stride} depends on the size of the input, which is unknown; give '
            "inputs=... with a fixed size"
        )
    else:
        total = max((-(-size // stride) - 1) * stride + reach + 1 - size, 0)
    return total // 2, total - total // 2


def reach(kernel_size: Shape, dilation: Shape) -> Shape:
    """Return the distance from the first to the last element of a dilated kernel along each axis."""
    return tuple(step * (size - 1) for size, step in zip(kernel_size, dilation, strict=True))


def padding_layers(config: Config, rank: int) -> tuple[LayerSpecs, str]:
    """Return the padding layers that Keras needs before a convolution, and the convolution's own argument `padding`."""
    axes = _torch_pads(config, rank)
    if not any(map(any, axes)):
        return (), "valid"
    if config["padding_mode"] != "zeros":
        return (_mirroring_layer(config["padding_mode"], axes, rank),), "valid"
    if _is_same(config, rank):
        return (), "same"
    return (zero_padding(axes),), "valid"


def zero_padding(axes: Pads) -> LayerSpec:
    """Return the Keras layer that adds zeros at the start and the end of each spatial axis."""
    padding = axes[0] if len(axes) == 1 else axes
    return LayerSpec(kind=f"keras.layers.ZeroPadding{len(axes)}D", config={"padding": padding})


def torch_pad(name: str, axes: Pads, **config: float) -> LayerSpec:
    """Return the torch layer that pads each spatial axis at the start and the end.

    Args:
        name: The name of its class without the number of axes: "ZeroPad".
        axes: The numbers of elements to add.
        config: Its further arguments.
    """
    numbers = tuple(number for axis in reversed(axes) for number in axis)
    return LayerSpec(kind=f"torch.nn.{name}{len(axes)}d", config={"padding": numbers, **config})


def torch_padding(layers: LayerSpecs, kernel_size: Shape, rank: int) -> tuple[LayerSpecs, Config]:
    """Return the padding layers that torch needs before a convolution, and its arguments `padding` and `padding_mode`.

    Args:
        layers: The Keras padding layers, if any, and the Keras convolution.
        kernel_size: The kernel size of the convolution.
        rank: The number of spatial axes.

    Raises:
        RuleError: Torch has no equivalent padding.
    """
    convolution, mode = last(layers), _padding_mode(layers)
    axes = _keras_pads(layers, kernel_size, rank)
    if isinstance(axes, str):
        # Torch's constructor raises an exception for "same" with a stride, so no wrong module can result.
        return (), {"padding": axes, "padding_mode": mode}
    if all(start == end for start, end in axes):
        return (), {"padding": tuple(start for start, _ in axes), "padding_mode": mode}
    dilation = ints(convolution.config.get("dilation_rate", 1), rank)
    strides = ints(convolution.config.get("strides", 1), rank)
    if set(strides) == {1} and axes == _same_pads(kernel_size, dilation) and _may_be_same(layers):
        return (), {"padding": "same", "padding_mode": mode}
    return (torch_pad(_TORCH_LAYERS[mode], axes),), {"padding": (0,) * rank, "padding_mode": "zeros"}


def _torch_pads(config: Config, rank: int) -> Pads:
    """Return the numbers of elements that torch adds at the start and the end of every axis."""
    if config["padding"] == "valid":
        return ((0, 0),) * rank
    if config["padding"] == "same":
        return _same_pads(config["kernel_size"], ints(config["dilation"], rank))
    return tuple((pad, pad) for pad in ints(config["padding"], rank))


def _same_pads(kernel_size: Shape, dilation: Shape) -> Pads:
    """Return the numbers of elements that padding="same" adds at the start and end of each axis, with strides of 1."""
    return tuple(same_padding(None, size, 1, step) for size, step in zip(kernel_size, dilation, strict=True))


def _is_same(config: Config, rank: int) -> bool:
    """Return whether Keras' padding="same" pads exactly as a torch convolution does."""
    if isinstance(config["padding"], str):
        return bool(config["padding"] == "same")
    totals = reach(config["kernel_size"], ints(config["dilation"], rank))
    pads_alike = tuple(2 * pad for pad in ints(config["padding"], rank)) == totals
    return set(ints(config["stride"], rank)) == {1} and pads_alike


def _mirroring_layer(mode: str, axes: Pads, rank: int) -> LayerSpec:
    """Return the Keras layer that pads with the values of its input (reflect, replicate, circular).

    `keras.ops.pad` cannot reflect volumes on the torch backend, so a layer of keras3conv is used for them.

    Args:
        mode: Torch's `padding_mode`: "reflect", "replicate" or "circular".
        axes: The numbers of elements to add at the start and the end of each spatial axis.
        rank: The number of spatial axes.
    """
    if mode == "reflect" and rank < 3:
        return LayerSpec(kind=PAD, config={"pad_width": ((0, 0), *axes, (0, 0)), "mode": "reflect"})
    return LayerSpec(kind=PAD_LAYER, config={"padding": axes, "mode": _KERAS_MODES[mode]})


def _keras_pads(layers: LayerSpecs, kernel_size: Shape, rank: int) -> Pads | str:
    """Return the numbers of elements that a Keras convolution adds at the start and the end of every axis.

    Args:
        layers: The Keras convolution, after a padding layer if there is one.
        kernel_size: The kernel size of the convolution.
        rank: The number of spatial axes.

    Returns:
        The numbers; or "same" if they depend on an unknown input size.
    """
    convolution = last(layers)
    padding = convolution.config.get("padding", "valid")
    if len(layers) > 1:
        return pads_before(layers, rank)
    if padding == "valid":
        return ((0, 0),) * rank
    strides = ints(convolution.config.get("strides", 1), rank)
    dilation = ints(convolution.config.get("dilation_rate", 1), rank)
    if padding == "causal":
        return ((reach(kernel_size, dilation)[0], 0),)
    if set(strides) == {1}:
        return _same_pads(kernel_size, dilation)
    spatial = spatial_sizes(convolution, rank)
    if None in spatial:
        return "same"
    return tuple(map(same_padding, spatial, kernel_size, strides, dilation))


def spatial_sizes(layer: LayerSpec, rank: int) -> tuple[int | None, ...]:
    """Return the sizes of the spatial axes of a Keras layer's input; None for an unknown size."""
    first = 2 if layer.config.get("data_format") == "channels_first" else 1
    return layer.inputs[0][first : first + rank] if layer.inputs else (None,) * rank


def pads_before(layers: LayerSpecs, rank: int) -> Pads:
    """Return the numbers of elements that a Keras padding layer adds to each spatial axis, at the start and the end.

    Args:
        layers: The padding layer, and a convolution or pooling, which must not pad, too.
        rank: The number of spatial axes.
    """
    before, owner = layers[0].config, last(layers)
    require_value(owner.kind, "padding", owner.config.get("padding", "valid"), "valid")
    if layers[0].kind == PAD:
        return pads(before["pad_width"], rank + 2)[1:-1]
    return pads(before.get("padding", 1), rank)


def _padding_mode(layers: LayerSpecs) -> str:
    """Return the argument `padding_mode` of a torch convolution, such as "zeros" or "reflect", for its Keras layers.

    Args:
        layers: The Keras convolution, after a padding layer if there is one.
    """
    if layers[0].kind not in (PAD, PAD_LAYER):
        return "zeros"
    modes = {keras: torch for torch, keras in _KERAS_MODES.items()}
    mode = layers[0].config["mode"]
    require_value(layers[0].kind, "mode", mode, *(["reflect"] if layers[0].kind == PAD else modes))
    return modes[mode]


def _may_be_same(layers: LayerSpecs) -> bool:
    """Return whether a torch convolution may get padding="same"; False after a Keras ZeroPadding layer.

    The ZeroPadding then becomes a separate torch layer, too.

    Args:
        layers: The Keras convolution, after a padding layer if there is one.
    """
    return layers[0].kind in (PAD, PAD_LAYER) or last(layers).config.get("padding") == "same"
