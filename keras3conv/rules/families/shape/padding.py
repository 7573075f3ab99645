"""Rules for padding and cropping. Torch lists the last axis first, Keras the first; negative torch padding crops."""

from functools import partial
from typing import Any

from keras3conv.errors import RuleError
from keras3conv.rules.helpers.config import ints, last, pads, paired, require_value
from keras3conv.rules.registry import register
from keras3conv.rules.rule import Config, Example, LayerSpec, LayerSpecs, Rule

Pads = tuple[tuple[int, int], ...]

PAD = "keras.ops.pad"
PAD_LAYER = "keras3conv.frameworks.keras.layers.Pad"


def axes_of(config: Config, rank: int) -> Pads:
    """Return the padding of a torch padding layer at the start and end of each spatial axis, the first axis first.

    Args:
        config: The configuration of the torch padding layer.
        rank: The number of spatial axes.
    """
    numbers = ints(config["padding"], 2 * rank)
    return tuple((numbers[2 * axis], numbers[2 * axis + 1]) for axis in reversed(range(rank)))


def _numbers(axes: Pads) -> tuple[int, ...]:
    """Return the padding of all axes as the argument of a torch layer: one tuple of numbers, the last axis first.

    The function is the inverse of `axes_of`.
    """
    return tuple(int(number) for axis in reversed(axes) for number in axis)


def _crops(config: Config, *, rank: int) -> bool:
    return min(ints(config["padding"], 2 * rank)) < 0


def _pads_only(config: Config, *, rank: int) -> bool:
    return not _crops(config, rank=rank)


def _layer(kind: str, axes: Pads) -> LayerSpecs:
    """Return a Keras padding or cropping layer in a tuple; an empty tuple if there is nothing to pad or crop.

    Args:
        kind: The class without the number of axes: "ZeroPadding" or "Cropping".
        axes: The numbers of elements at the start and the end of each axis.
    """
    name, argument = f"keras.layers.{kind}{len(axes)}D", "cropping" if kind == "Cropping" else "padding"
    given = axes[0] if len(axes) == 1 else axes
    return (LayerSpec(kind=name, config={argument: given}),) if any(map(any, axes)) else ()


def _zero_pad_to_keras(config: Config, *, rank: int) -> LayerSpecs:
    axes = axes_of(config, rank)
    if _crops(config, rank=rank):
        raise RuleError(
            f"ZeroPad{rank}d with padding={config['padding']} crops, which ZeroPadding{rank}D cannot"
            ": crop in a separate layer"
        )
    return _layer("ZeroPadding", axes) or (LayerSpec(kind=f"keras.layers.ZeroPadding{rank}D", config={"padding": 0}),)


def _crop_to_keras(config: Config, *, rank: int) -> LayerSpecs:
    """Return the Keras layers for a torch padding with negative numbers: a ZeroPadding, if needed, then a Cropping.

    Args:
        config: The configuration of the torch padding layer, which has a negative number.
        rank: The number of spatial axes.
    """
    axes = axes_of(config, rank)
    if not _crops(config, rank=rank):
        raise RuleError(
            f"ZeroPad{rank}d with padding={config['padding']} adds elements, but Cropping{rank}D cannot"
            ": pad in a separate layer"
        )
    added = tuple((max(start, 0), max(end, 0)) for start, end in axes)
    taken = tuple((max(-start, 0), max(-end, 0)) for start, end in axes)
    return (*_layer("ZeroPadding", added), *_layer("Cropping", taken))


def _to_torch(layers: LayerSpecs, *, rank: int) -> LayerSpecs:
    """Return one torch ZeroPad for Keras zero padding, cropping, or both at different ends.

    Raises:
        RuleError: The same end of an axis is padded and cropped.
    """
    total = [[0, 0] for _ in range(rank)]
    for layer in layers:
        sign, name = (-1, "cropping") if "Cropping" in layer.kind else (1, "padding")
        require_value(
            layer.kind, "data_format", layer.config.get("data_format"), None, "channels_last", "channels_first"
        )
        for axis, sides in enumerate(pads(layer.config.get(name, 1), rank)):
            for place, number in enumerate(sides):
                if number and total[axis][place]:
                    raise RuleError(
                        f"{layer.kind.rpartition('.')[2]} changes an end of an axis that a layer before it changes, "
                        f"which one torch ZeroPad{rank}d cannot do"
                        ": use a torch layer for each of them"
                    )
                total[axis][place] += sign * number
    axes = tuple((start, end) for start, end in total)
    return (LayerSpec(kind=f"torch.nn.ZeroPad{rank}d", config={"padding": _numbers(axes)}),)


_SIZES = (2, 3, 5, 4, 6), (3, 2, 4, 7, 5)

for _rank in (1, 2, 3):
    _shapes = tuple(sizes[: _rank + 2] for sizes in _SIZES)
    _examples = (
        Example(config={"padding": (1, 2, 0, 3, 4, 1)[: 2 * _rank]}, inputs=(_shapes[0],)),
        Example(config={"padding": 2}, inputs=(_shapes[1],)),
    )
    register(
        Rule(
            torch=f"torch.nn.ZeroPad{_rank}d",
            keras=f"keras.layers.ZeroPadding{_rank}D",
            fields=paired(padding="padding"),
            applies=partial(_pads_only, rank=_rank),
            to_keras=partial(_zero_pad_to_keras, rank=_rank),
            to_torch=partial(_to_torch, rank=_rank),
            layout="channels",
            examples=_examples,
            train=True,
        )
    )
    _examples = (
        Example(config={"padding": (-1, -2, 0, -1, -3, -1)[: 2 * _rank]}, inputs=(_shapes[0],)),
        Example(config={"padding": (-1, 2, 1, -3, 0, -1)[: 2 * _rank]}, inputs=(_shapes[1],)),
    )
    register(
        Rule(
            torch=f"torch.nn.ZeroPad{_rank}d",
            keras=f"keras.layers.Cropping{_rank}D",
            fields=paired(padding="cropping"),
            applies=partial(_crops, rank=_rank),
            to_keras=partial(_crop_to_keras, rank=_rank),
            to_torch=partial(_to_torch, rank=_rank),
            layout="channels",
            examples=_examples,
            train=True,
        )
    )


def _widths(config: Config, rank: int) -> Pads:
    """Return `keras.ops.pad`'s argument `pad_width` for a torch padding layer; batch and channels are not padded."""
    return ((0, 0), *axes_of(config, rank), (0, 0))


def _require_no_crop(config: Config, kind: str, rank: int) -> None:
    if _crops(config, rank=rank):
        raise RuleError(
            f"{kind}{rank}d with padding={config['padding']} crops, which keras.ops.pad cannot"
            ": crop in a separate layer"
        )


def _constant_to_keras(config: Config, *, rank: int) -> LayerSpecs:
    _require_no_crop(config, "ConstantPad", rank)
    keras = {"pad_width": _widths(config, rank), "mode": "constant", "constant_values": config["value"]}
    return (LayerSpec(kind=PAD, config=keras),)


def _reflect_to_keras(config: Config, *, rank: int) -> LayerSpecs:
    _require_no_crop(config, "ReflectionPad", rank)
    return (LayerSpec(kind=PAD, config={"pad_width": _widths(config, rank), "mode": "reflect"}),)


def _ops_pad_to_torch(layers: LayerSpecs, *, rank: int, name: str, mode: str) -> LayerSpecs:
    keras = last(layers).config
    require_value(PAD, "mode", keras.get("mode", "constant"), mode)
    widths = pads(keras["pad_width"], rank + 2)
    if len(widths) != rank + 2 or any(widths[0]) or any(widths[-1]):
        raise RuleError(
            f"keras.ops.pad with pad_width={widths} pads axes that {name}{rank}d cannot pad: pad them in a custom layer"
        )
    config: dict[str, Any] = {"padding": _numbers(widths[1:-1])}
    if mode == "constant":
        config["value"] = keras.get("constant_values") or 0
    return (LayerSpec(kind=f"torch.nn.{name}{rank}d", config=config),)


def _pad_examples(rank: int, **options: Any) -> tuple[Example, ...]:
    """Return two examples to test a padding rule: with different numbers at all ends, and with equal numbers."""
    padding = (1, 2, 0, 3, 2, 1)[: 2 * rank]
    return (
        Example(config={"padding": padding, **options}, inputs=(_SIZES[0][: rank + 2],)),
        Example(config={"padding": 2, **options}, inputs=(_SIZES[1][: rank + 2],)),
    )


for _rank in (1, 2, 3):
    register(
        Rule(
            torch=f"torch.nn.ConstantPad{_rank}d",
            keras=PAD,
            fields=paired(padding="pad_width", value="constant_values"),
            to_keras=partial(_constant_to_keras, rank=_rank),
            to_torch=partial(_ops_pad_to_torch, rank=_rank, name="ConstantPad", mode="constant"),
            layout="channels",
            examples=(_pad_examples(_rank, value=-1.5)[0], _pad_examples(_rank, value=0)[1]),
            train=True,
        )
    )


for _rank in (1, 2):
    register(
        Rule(
            torch=f"torch.nn.ReflectionPad{_rank}d",
            keras=PAD,
            fields=paired(padding="pad_width"),
            to_keras=partial(_reflect_to_keras, rank=_rank),
            to_torch=partial(_ops_pad_to_torch, rank=_rank, name="ReflectionPad", mode="reflect"),
            layout="channels",
            examples=_pad_examples(_rank),
            train=True,
        )
    )


def _pad_layer_to_keras(config: Config, *, rank: int, name: str, mode: str) -> LayerSpecs:
    _require_no_crop(config, name, rank)
    return (LayerSpec(kind=PAD_LAYER, config={"padding": axes_of(config, rank), "mode": mode}),)


def _pad_layer_to_torch(layers: LayerSpecs, *, rank: int, name: str, mode: str) -> LayerSpecs:
    keras = last(layers).config
    require_value(PAD_LAYER, "mode", keras["mode"], mode)
    axes = pads(keras["padding"], rank)
    if len(axes) != rank:
        raise RuleError(
            f"a Pad layer for {len(axes)} axes cannot become {name}{rank}d, which pads {rank}"
            ": change the number of axes"
        )
    return (LayerSpec(kind=f"torch.nn.{name}{rank}d", config={"padding": _numbers(axes)}),)


_MODES = [("ReflectionPad", "reflect", 3)]
_MODES += [
    (name, mode, rank) for name, mode in (("ReplicationPad", "edge"), ("CircularPad", "wrap")) for rank in (1, 2, 3)
]

for _name, _mode, _rank in _MODES:
    register(
        Rule(
            torch=f"torch.nn.{_name}{_rank}d",
            keras=PAD_LAYER,
            fields=paired(padding="padding"),
            to_keras=partial(_pad_layer_to_keras, rank=_rank, name=_name, mode=_mode),
            to_torch=partial(_pad_layer_to_torch, rank=_rank, name=_name, mode=_mode),
            layout="channels",
            examples=_pad_examples(_rank),
            train=True,
        )
    )
