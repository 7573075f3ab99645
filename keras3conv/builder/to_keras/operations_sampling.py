"""Convert the sampling of images at the positions of a grid."""

from typing import Any

from keras3conv.builder.program.program import identity
from keras3conv.builder.program.structure import Argument
from keras3conv.builder.to_keras.call import Call, Result, handles, own
from keras3conv.builder.to_keras.layouts import channels_last
from keras3conv.errors import RuleError
from keras3conv.model.graph import Size

_FUNCTIONS = ("grid_sample", "grid_sample_nearest", "grid_sample_bicubic")
"""The function for each number of an interpolation mode in torch."""

_PADDINGS = (None, Argument("to_border"), Argument("reflected"))
"""The function that moves positions into an image, for each number of a padding mode in torch."""


@handles("grid_sampler", "grid_sampler_2d", "grid_sampler_3d")
def _grid_sample(call: Call) -> Result:
    order = channels_last(len(call.shape))
    images = call.ordered(call.arguments["input"], order)
    grid = call.ordered(call.arguments["grid"], identity(len(call.shape)))
    if any(isinstance(size, Size) for size in (*images.shape[1:], *grid.shape[1:])):
        raise RuleError("grid_sample needs images and grids of a fixed size, but an axis beside the batch is dynamic")
    options: dict[str, Any] = {}
    if padding := _PADDINGS[call.arguments["padding_mode"]]:
        options["padding"] = padding
    if call.arguments["align_corners"]:
        options["align_corners"] = True
    sample = own.named(_FUNCTIONS[call.arguments["interpolation_mode"]])
    return call.step(sample(images, grid, **options), order=order)
