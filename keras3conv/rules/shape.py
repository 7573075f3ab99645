"""Layers that move axes and values about."""

from functools import partial

from keras3conv.errors import RuleError
from keras3conv.rule import Config, Example, LayerSpec, LayerSpecs, Rule, register
from keras3conv.rules._keras import back, ints, last, one, pads, require_value

register(
    Rule(
        torch="torch.nn.Identity",
        keras="keras.layers.Identity",
        fields=(),
        to_keras=one("keras.layers.Identity"),
        to_torch=back("torch.nn.Identity"),
        examples=(Example(config={}, inputs=((3, 5),)),),
        train=True,
    )
)


def _zero_pad_to_keras(config: Config, *, rank: int) -> LayerSpecs:
    numbers = ints(config["padding"], 2 * rank)
    if min(numbers) < 0:
        raise RuleError(f"ZeroPad{rank}d with padding={numbers} crops: ZeroPadding{rank}D cannot")
    # Torch begins with the last axis, Keras with the first.
    axes = tuple((numbers[2 * axis], numbers[2 * axis + 1]) for axis in reversed(range(rank)))
    padding = axes[0] if rank == 1 else axes
    return (LayerSpec(kind=f"keras.layers.ZeroPadding{rank}D", config={"padding": padding}),)


def _zero_pad_to_torch(layers: LayerSpecs, *, rank: int) -> LayerSpecs:
    axes = pads(last(layers).config.get("padding", 1), rank)
    numbers = tuple(number for axis in reversed(axes) for number in axis)
    return (LayerSpec(kind=f"torch.nn.ZeroPad{rank}d", config={"padding": numbers}),)


for _rank in (1, 2, 3):
    register(
        Rule(
            torch=f"torch.nn.ZeroPad{_rank}d",
            keras=f"keras.layers.ZeroPadding{_rank}D",
            fields=("padding",),
            to_keras=partial(_zero_pad_to_keras, rank=_rank),
            to_torch=partial(_zero_pad_to_torch, rank=_rank),
            layout="channels",
            examples=(
                Example(config={"padding": (1, 2, 0, 3, 4, 1)[: 2 * _rank]}, inputs=((2, 3, 5, 4, 6)[: _rank + 2],)),
                Example(config={"padding": 2}, inputs=((3, 2, 4, 7, 5)[: _rank + 2],)),
            ),
            train=True,
        )
    )


def _upsample_scales(config: Config, rank: int) -> tuple[int, ...] | None:
    """Whole-number scales, one for each axis; None where there are none, or for another number of axes."""
    scales = config["scale_factor"]
    given = scales if isinstance(scales, tuple | list) else (scales,)
    if any(scale is None or scale != int(scale) or scale < 1 for scale in given) or len(given) not in (1, rank):
        return None
    return ints(given, rank)


def _upsample_applies(config: Config, *, rank: int) -> bool:
    return config["mode"] == "nearest" and _upsample_scales(config, rank) is not None


def _upsample_to_keras(config: Config, *, rank: int) -> LayerSpecs:
    require_value("torch.nn.Upsample", "mode", config["mode"], "nearest")
    scales = _upsample_scales(config, rank)
    if scales is None:
        raise RuleError(f"Upsample to a size, or by {config['scale_factor']}, is no whole-number scale of {rank} axes")
    return (LayerSpec(kind=f"keras.layers.UpSampling{rank}D", config={"size": scales[0] if rank == 1 else scales}),)


def _upsample_to_torch(layers: LayerSpecs, *, rank: int) -> LayerSpecs:
    keras = last(layers).config
    require_value(f"keras.layers.UpSampling{rank}D", "interpolation", keras.get("interpolation", "nearest"), "nearest")
    scales = tuple(float(scale) for scale in ints(keras.get("size", 2), rank))
    return (LayerSpec(kind="torch.nn.Upsample", config={"scale_factor": scales, "mode": "nearest"}),)


# Two axes first: a single scale does not say for how many it is, and images are the most common.
for _rank in (2, 1, 3):
    register(
        Rule(
            torch="torch.nn.Upsample",
            keras=f"keras.layers.UpSampling{_rank}D",
            fields=("scale_factor", "mode"),
            applies=partial(_upsample_applies, rank=_rank),
            to_keras=partial(_upsample_to_keras, rank=_rank),
            to_torch=partial(_upsample_to_torch, rank=_rank),
            layout="channels",
            examples=(
                Example(config={"scale_factor": (2, 3, 4)[:_rank]}, inputs=((2, 3, 5, 4, 6)[: _rank + 2],)),
                Example(config={"scale_factor": 3}, inputs=((3, 2, 4, 5, 3)[: _rank + 2],), canonical=False),
            ),
            train=True,
        )
    )


def _flatten_to_keras(config: Config) -> LayerSpecs:
    require_value("torch.nn.Flatten", "start_dim", config["start_dim"], 1)
    require_value("torch.nn.Flatten", "end_dim", config["end_dim"], -1)
    return (LayerSpec(kind="keras.layers.Flatten"),)


register(
    Rule(
        torch="torch.nn.Flatten",
        keras="keras.layers.Flatten",
        fields=("start_dim", "end_dim"),
        to_keras=_flatten_to_keras,
        to_torch=lambda layers: (LayerSpec(kind="torch.nn.Flatten", config={"start_dim": 1, "end_dim": -1}),),
        examples=(Example(config={}, inputs=((3, 5),)), Example(config={}, inputs=((2, 5, 7),))),
        note="Torch flattens (c, h, w), Keras (h, w, c): the kernel of the next Dense is permuted by the traced shape.",
        train=True,
    )
)
