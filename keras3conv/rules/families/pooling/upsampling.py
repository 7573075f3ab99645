"""Rules for resizing: Keras' UpSampling for integer scales with mode nearest, else keras3conv's layer `Resample`.

`Resample` interpolates as torch does. Keras' own resizing is not used: on some backends it has another cubic kernel or
computes in float32 only, and on none can it set `align_corners`, or interpolate by the given scale when the output size
is rounded.
"""

from functools import partial
from typing import Any

from keras3conv.errors import RuleError
from keras3conv.rules.helpers.config import ints, last, paired, renaming, require_value
from keras3conv.rules.registry import register
from keras3conv.rules.rule import Config, Example, LayerSpec, LayerSpecs, Rule

RESAMPLE = "keras3conv.frameworks.keras.layers.Resample"

_SIZE_FIELDS = {name: name for name in ("size", "scale_factor", "mode", "align_corners", "recompute_scale_factor")}


def _scales(config: Config, rank: int) -> tuple[int, ...] | None:
    """Return the integer scale factor of each axis of a torch Upsample.

    Returns:
        The factors; None if one is not an integer, or if there is neither one factor for all axes nor one for each.
    """
    scales = config["scale_factor"]
    given = scales if isinstance(scales, tuple | list) else (scales,)
    if any(scale is None or scale != int(scale) or scale < 1 for scale in given) or len(given) not in (1, rank):
        return None
    return ints(given, rank)


def _repeats(config: Config, *, rank: int) -> bool:
    return config["mode"] == "nearest" and _scales(config, rank) is not None


def _repeat_to_keras(config: Config, *, rank: int) -> LayerSpecs:
    require_value("torch.nn.Upsample", "mode", config["mode"], "nearest")
    scales = _scales(config, rank)
    if scales is None:
        if config["scale_factor"] is None:
            raise RuleError(
                f"Upsample with size=... cannot become UpSampling{rank}D, which takes a scale; give it a scale_factor"
            )
        needed = "needs one integer, or one per axis, of at least 1"
        raise RuleError(
            f"Upsample has scale_factor={config['scale_factor']}, but UpSampling{rank}D {needed}"
            ": use the Keras layer Resample of keras3conv"
        )
    return (LayerSpec(kind=f"keras.layers.UpSampling{rank}D", config={"size": scales[0] if rank == 1 else scales}),)


def _repeat_to_torch(layers: LayerSpecs, *, rank: int) -> LayerSpecs:
    """Return the torch Upsample for a Keras UpSampling layer.

    Bilinear interpolation is the same in both frameworks. Bicubic interpolation differs, so a `RuleError` is raised.

    Args:
        layers: The Keras layers; the last one is the UpSampling.
        rank: The number of spatial axes.
    """
    keras = last(layers).config
    mode = keras.get("interpolation", "nearest")
    require_value(f"keras.layers.UpSampling{rank}D", "interpolation", mode, "nearest", "bilinear")
    config: dict[str, Any] = {"scale_factor": tuple(float(scale) for scale in ints(keras.get("size", 2), rank))}
    config |= {"mode": mode} if mode == "nearest" else {"mode": mode, "align_corners": False}
    return (LayerSpec(kind="torch.nn.Upsample", config=config),)


# The rule for two axes comes first: a single scale does not determine the number of axes, and images are most common.
for _rank in (2, 1, 3):
    _examples = (
        Example(config={"scale_factor": (2, 3, 4)[:_rank]}, inputs=((2, 3, 5, 4, 6)[: _rank + 2],)),
        Example(config={"scale_factor": 3}, inputs=((3, 2, 4, 5, 3)[: _rank + 2],), canonical=False),
    )
    register(
        Rule(
            torch="torch.nn.Upsample",
            keras=f"keras.layers.UpSampling{_rank}D",
            fields=paired("mode", scale_factor="size"),
            applies=partial(_repeats, rank=_rank),
            to_keras=partial(_repeat_to_keras, rank=_rank),
            to_torch=partial(_repeat_to_torch, rank=_rank),
            layout="channels",
            examples=_examples,
            train=True,
        )
    )


def _resample_to_keras(config: Config) -> LayerSpecs:
    return (LayerSpec(kind=RESAMPLE, config={name: config.get(name) for name in _SIZE_FIELDS}),)


def _resample_to_torch(layers: LayerSpecs, *, kind: str) -> LayerSpecs:
    keras = last(layers).config
    config = {name: tuple(value) if isinstance(value := keras.get(name), list) else value for name in _SIZE_FIELDS}
    return (LayerSpec(kind=kind, config=config),)


_OPTIONS: tuple[tuple[tuple[int, ...], dict[str, Any]], ...] = (
    ((2, 3, 5, 4), {"scale_factor": 1.7}),
    ((3, 2, 7, 6), {"size": (5, 11)}),
    ((2, 3, 4, 9), {"size": (9, 4), "mode": "nearest-exact"}),
    ((2, 3, 7), {"size": 10, "mode": "linear", "align_corners": False}),
    ((2, 3, 6), {"scale_factor": 2.3, "mode": "linear", "align_corners": True}),
    ((2, 3, 5, 4), {"scale_factor": (1.5, 2.7), "mode": "bilinear", "align_corners": False}),
    ((2, 3, 6, 7), {"size": (4, 9), "mode": "bilinear", "align_corners": True}),
    ((2, 3, 5, 4), {"scale_factor": 2.3, "mode": "bilinear", "recompute_scale_factor": True, "align_corners": False}),
    ((2, 3, 5, 4), {"scale_factor": (2.5, 1.5), "mode": "bicubic", "align_corners": False}),
    ((2, 3, 4, 7), {"size": (8, 5), "mode": "bicubic", "align_corners": True}),
    ((2, 3, 4, 5, 2), {"scale_factor": (1.5, 2.0, 2.6), "mode": "trilinear", "align_corners": False}),
    ((2, 3, 3, 4, 6), {"size": (5, 7, 4), "mode": "trilinear", "align_corners": True}),
)

_DEFAULTS: dict[str, Any] = {"size": None, "scale_factor": None, "mode": "nearest"}
_DEFAULTS |= {"align_corners": None, "recompute_scale_factor": None}

for _kind, _chosen in (("torch.nn.Upsample", _OPTIONS), ("torch.nn.functional.interpolate", _OPTIONS[1::3])):
    register(
        Rule(
            torch=_kind,
            keras=RESAMPLE,
            fields=_SIZE_FIELDS,
            to_keras=_resample_to_keras,
            to_torch=partial(_resample_to_torch, kind=_kind),
            layout="channels",
            examples=tuple(Example(config=_DEFAULTS | options, inputs=(shape,)) for shape, options in _chosen),
            train=True,
        )
    )


# Layers of keras3conv: `keras.ops.rearrange` computes the same, but JAX cannot compile it.
_SHUFFLES = (
    ("PixelShuffle", "upscale_factor", ((2, 12, 4, 5), (3, 18, 5, 4))),
    ("PixelUnshuffle", "downscale_factor", ((2, 3, 4, 10), (4, 2, 9, 6))),
    ("ChannelShuffle", "groups", ((2, 6, 4, 5), (3, 12, 7, 2))),
)

for _name, _field, _shapes in _SHUFFLES:
    register(
        Rule(
            **renaming(f"torch.nn.{_name}", f"keras3conv.frameworks.keras.layers.{_name}", **{_field: _field}),
            layout="channels",
            examples=tuple(
                Example(config={_field: factor}, inputs=(shape,)) for factor, shape in zip((2, 3), _shapes, strict=True)
            ),
            train=True,
        )
    )
