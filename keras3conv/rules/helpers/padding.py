"""What a convolution pads, in the words of both frameworks.

Torch pads symmetrically, Keras' "same" pads more at the end: where the two differ, the padding is a layer of its own.
"""

from keras3conv.rules.helpers.config import ints, last, pads, require_value
from keras3conv.rules.rule import Config, LayerSpec, LayerSpecs
from keras3conv.transforms import Shape

Pads = tuple[tuple[int, int], ...]
"""The start and the end of every spatial axis."""

PAD, PAD_LAYER = "keras.ops.pad", "keras3conv.frameworks.keras.layers.Pad"

_KERAS_MODES = {"reflect": "reflect", "replicate": "edge", "circular": "wrap"}
_TORCH_LAYERS = {
    "zeros": "ZeroPad",
    "reflect": "ReflectionPad",
    "replicate": "ReplicationPad",
    "circular": "CircularPad",
}


def reach(kernel_size: Shape, dilation: Shape) -> Shape:
    """How far a kernel reaches along each axis, beyond its first element."""
    return tuple(step * (size - 1) for size, step in zip(kernel_size, dilation, strict=True))


def padding_layers(config: Config, rank: int) -> tuple[LayerSpecs, str]:
    """The padding layers that Keras needs before the convolution, and the convolution's own padding.

    Args:
        config: The configuration of the torch convolution.
        rank: The number of spatial axes.
    """
    axes = _torch_pads(config, rank)
    if not any(map(any, axes)):
        return (), "valid"
    if config["padding_mode"] != "zeros":
        return (_mirroring_layer(config["padding_mode"], axes, rank),), "valid"
    if _says_same(config, rank):
        return (), "same"
    padding = axes[0] if rank == 1 else axes
    return (LayerSpec(kind=f"keras.layers.ZeroPadding{rank}D", config={"padding": padding}),), "valid"


def torch_padding(layers: LayerSpecs, kernel_size: Shape, rank: int) -> tuple[LayerSpecs, Config]:
    """Torch's own padding, and the layer before the convolution that it needs where the two ends differ.

    Args:
        layers: The Keras convolution, after the layers that pad for it.
        kernel_size: The size of its kernel.
        rank: The number of spatial axes.

    Raises:
        RuleError: Torch cannot pad so.
    """
    convolution, mode = last(layers), _padding_mode(layers)
    axes = _keras_pads(layers, kernel_size, rank)
    if isinstance(axes, str):
        # Torch refuses "same" with a stride: nothing is built that is wrong.
        return (), {"padding": axes, "padding_mode": mode}
    if all(start == end for start, end in axes):
        return (), {"padding": tuple(start for start, _ in axes), "padding_mode": mode}
    dilation = ints(convolution.config.get("dilation_rate", 1), rank)
    strides = ints(convolution.config.get("strides", 1), rank)
    if set(strides) == {1} and axes == _halves(reach(kernel_size, dilation)) and _may_say_same(layers):
        return (), {"padding": "same", "padding_mode": mode}
    numbers = tuple(number for axis in reversed(axes) for number in axis)
    before = LayerSpec(kind=f"torch.nn.{_TORCH_LAYERS[mode]}{rank}d", config={"padding": numbers})
    return (before,), {"padding": (0,) * rank, "padding_mode": "zeros"}


def _torch_pads(config: Config, rank: int) -> Pads:
    """What torch pads at the start and the end of every axis; the odd one of "same" at the end."""
    if config["padding"] == "valid":
        return ((0, 0),) * rank
    if config["padding"] == "same":
        return _halves(reach(config["kernel_size"], ints(config["dilation"], rank)))
    return tuple((pad, pad) for pad in ints(config["padding"], rank))


def _halves(totals: Shape) -> Pads:
    return tuple((total // 2, total - total // 2) for total in totals)


def _says_same(config: Config, rank: int) -> bool:
    """Whether torch's padding is what Keras calls "same"."""
    if isinstance(config["padding"], str):
        return bool(config["padding"] == "same")
    totals = reach(config["kernel_size"], ints(config["dilation"], rank))
    pads_alike = tuple(2 * pad for pad in ints(config["padding"], rank)) == totals
    return set(ints(config["stride"], rank)) == {1} and pads_alike


def _mirroring_layer(mode: str, axes: Pads, rank: int) -> LayerSpec:
    """Padding with values of the image; Keras' own function reflects, on torch no volumes."""
    if mode == "reflect" and rank < 3:
        return LayerSpec(kind=PAD, config={"pad_width": ((0, 0), *axes, (0, 0)), "mode": "reflect"})
    return LayerSpec(kind=PAD_LAYER, config={"padding": axes, "mode": _KERAS_MODES[mode]})


def _keras_pads(layers: LayerSpecs, kernel_size: Shape, rank: int) -> Pads | str:
    """What Keras pads at the start and the end of every axis; "same" where that depends on an input of unknown size."""
    convolution = last(layers)
    padding = convolution.config.get("padding", "valid")
    if len(layers) > 1:
        require_value(convolution.kind, "padding", padding, "valid")
        return _pads_before(layers[0], rank)
    if padding == "valid":
        return ((0, 0),) * rank
    strides = ints(convolution.config.get("strides", 1), rank)
    totals = reach(kernel_size, ints(convolution.config.get("dilation_rate", 1), rank))
    if padding == "causal":
        return ((totals[0], 0),)
    if set(strides) == {1}:
        return _halves(totals)
    first = 2 if convolution.config.get("data_format") == "channels_first" else 1
    spatial = convolution.inputs[0][first : first + rank] if convolution.inputs else ()
    return tuple(map(_same_pads, spatial, strides, totals)) if spatial and None not in spatial else "same"  # type: ignore[arg-type]


def _pads_before(before: LayerSpec, rank: int) -> Pads:
    """What the layer before the convolution pads."""
    if before.kind == PAD:
        return pads(before.config["pad_width"], rank + 2)[1:-1]
    return pads(before.config.get("padding", 1), rank)


def _padding_mode(layers: LayerSpecs) -> str:
    """What the layer before the convolution pads with, in torch's word."""
    if layers[0].kind not in (PAD, PAD_LAYER):
        return "zeros"
    modes = {keras: torch for torch, keras in _KERAS_MODES.items()}
    mode = layers[0].config["mode"]
    require_value(layers[0].kind, "mode", mode, *(["reflect"] if layers[0].kind == PAD else modes))
    return modes[mode]


def _may_say_same(layers: LayerSpecs) -> bool:
    """Whether "same" says it: after a layer of zeros the padding stays a layer, as it was written."""
    return layers[0].kind in (PAD, PAD_LAYER) or last(layers).config.get("padding") == "same"


def _same_pads(size: int, stride: int, total_reach: int) -> tuple[int, int]:
    """What "same" pads for a stride: as much as ceil(size / stride) windows need, the odd one at the end."""
    total = max((-(-size // stride) - 1) * stride + total_reach + 1 - size, 0)
    return total // 2, total - total // 2


__all__ = ["Pads", "padding_layers", "reach", "torch_padding"]
