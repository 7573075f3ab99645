"""The pitfalls of docs/numerics.md: each obvious translation is wrong by the documented amount, each right one agrees.

Every trap is a function that returns the output of torch, of the obvious Keras translation, and of the right one.
`python tests/torch_backend/test_numerics_page.py` measures them and writes the table into docs/numerics.md.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - the name that everybody gives it
from torch import nn

pytestmark = pytest.mark.slow

PAGE = Path(__file__).resolve().parents[2] / "docs" / "numerics.md"
BEGIN, END = "<!-- traps: begin -->\n", "<!-- traps: end -->"
AGREES = 2e-5
"""The largest difference of two equivalent small layers that float32 rounding causes."""

layers, ops = keras.layers, keras.ops
Outputs = tuple[Any, Any, Any]


@dataclass(frozen=True)
class Trap:
    """A row of the page: the torch code, the obvious translation, the right one, and the measurement."""

    torch: str
    obvious: str
    right: str
    measure: Callable[[], Outputs]


TRAPS: list[Trap] = []


def trap(torch_code: str, obvious: str, right: str) -> Callable[[Callable[[], Outputs]], Callable[[], Outputs]]:
    """Return a decorator that adds a row to the page."""

    def add(measure: Callable[[], Outputs]) -> Callable[[], Outputs]:
        TRAPS.append(Trap(torch_code, obvious, right, measure))
        return measure

    return add


def image(size: int = 32) -> torch.Tensor:
    return torch.randn(2, 3, size, size)


def last(x: torch.Tensor) -> torch.Tensor:
    """Return an image with its channels last, as Keras has it."""
    return x.movedim(1, -1).contiguous()


def filled(layer: Any, inputs: Any, *values: Any) -> Any:
    """Build a Keras layer, set its weights, and return it."""
    layer(inputs)
    layer.set_weights([value.detach().numpy() for value in values])
    return layer


def convolved(size: int) -> Outputs:
    x, conv = image(size), nn.Conv2d(3, 4, 3, stride=2, padding=1)
    weights = conv.weight.permute(2, 3, 1, 0), conv.bias
    obvious = filled(layers.Conv2D(4, 3, strides=2, padding="same"), last(x), *weights)
    padded = layers.ZeroPadding2D(1)(last(x))
    return last(conv(x)), obvious(last(x)), filled(layers.Conv2D(4, 3, strides=2), padded, *weights)(padded)


@trap("`Conv2d(3, stride=2, padding=1)`, 32 pixels", '`padding="same"`', '`ZeroPadding2D(1)`, then `"valid"`')
def strided_convolution() -> Outputs:
    return convolved(32)


@trap("`ConvTranspose2d(3, stride=2, padding=1)`", '`padding="same"`', '`"valid"`, then crop 1 on each side')
def transposed_convolution() -> Outputs:
    x, conv = image(9), nn.ConvTranspose2d(3, 4, 3, stride=2, padding=1)
    weights = conv.weight.permute(2, 3, 1, 0), conv.bias
    obvious = filled(layers.Conv2DTranspose(4, 3, strides=2, padding="same"), last(x), *weights)(last(x))
    valid = filled(layers.Conv2DTranspose(4, 3, strides=2), last(x), *weights)(last(x))
    return last(conv(x)), obvious[:, :17, :17], valid[:, 1:-1, 1:-1]


@trap("`AvgPool2d(3, stride=1, padding=1)`", '`padding="same"`, which leaves the border out', "pad with zeros first")
def average_pooling() -> Outputs:
    x = image(8)
    obvious = layers.AveragePooling2D(3, 1, padding="same")(last(x))
    right = layers.AveragePooling2D(3, 1)(layers.ZeroPadding2D(1)(last(x)))
    return last(nn.AvgPool2d(3, 1, 1)(x)), obvious, right


@trap("`MaxPool2d(3, stride=2, padding=1)`", "`ZeroPadding2D(1)`, then pool", "pad with minus infinity")
def maximum_pooling() -> Outputs:
    x = -image(8).abs()
    obvious = layers.MaxPooling2D(3, 2)(layers.ZeroPadding2D(1)(last(x)))
    right = layers.MaxPooling2D(3, 2)(F.pad(last(x), (0, 0, 1, 1, 1, 1), value=-float("inf")))
    return last(nn.MaxPool2d(3, 2, 1)(x)), obvious, right


@trap("`flatten(1)`, then `Linear`", "the transposed kernel", "its rows in the order height, width, channel")
def flattened() -> Outputs:
    x, linear = image(4), nn.Linear(48, 5)
    flat = last(x).flatten(1)
    obvious = filled(layers.Dense(5), flat, linear.weight.T, linear.bias)(flat)
    kernel = linear.weight.reshape(5, 3, 4, 4).permute(2, 3, 1, 0).reshape(48, 5)
    return linear(x.flatten(1)), obvious, filled(layers.Dense(5), flat, kernel, linear.bias)(flat)


@trap("`Linear(8, 8)`", "the kernel as it is: it fits, because it is square", "transposed")
def square_kernel() -> Outputs:
    x, linear = torch.randn(4, 8), nn.Linear(8, 8)
    obvious = filled(layers.Dense(8), x, linear.weight, linear.bias)(x)
    return linear(x), obvious, filled(layers.Dense(8), x, linear.weight.T, linear.bias)(x)


def normalised(variance: float, epsilon: float) -> Any:
    moving = torch.ones(3), torch.zeros(3), torch.zeros(3), torch.full((3,), variance)
    return filled(layers.BatchNormalization(epsilon=epsilon), torch.randn(2, 3), *moving)


@trap("`BatchNorm1d` where the variance is 1e-4", "the default epsilon, 1e-3", "`epsilon=1e-5`")
def batch_normalisation() -> Outputs:
    x, norm = torch.randn(4, 3), nn.BatchNorm1d(3).eval()
    norm.register_buffer("running_var", torch.full((3,), 1e-4))
    return norm(x), normalised(1e-4, 1e-3)(x), normalised(1e-4, 1e-5)(x)


@trap("`BatchNorm1d(momentum=0.1)`, the mean after a step", "`momentum=0.1`", "`momentum=0.9`")
def momentum() -> Outputs:
    x, norm = torch.randn(64, 3) + 2, nn.BatchNorm1d(3)
    norm(x)
    found = []
    for number in (0.1, 0.9):
        layer = layers.BatchNormalization(momentum=number)
        layer(x, training=True)
        found.append(layer.moving_mean.value)
    return norm.running_mean, *found


@trap("`BatchNorm1d`, the variance after a step of 4 samples", "the same", "N / (N - 1) of what Keras adds")
def stored_variance() -> Outputs:
    x, norm, layer = torch.randn(4, 3), nn.BatchNorm1d(3), layers.BatchNormalization(momentum=0.9)
    norm(x)
    layer(x, training=True)
    kept = layer.moving_variance.value
    return norm.running_var, kept, 0.9 + (kept - 0.9) * 4 / 3


@trap("`LayerNorm` on values near 0.01", "the default epsilon, 1e-3", "`epsilon=1e-5`")
def layer_normalisation() -> Outputs:
    x, norm = torch.randn(4, 16) * 0.01, nn.LayerNorm(16)
    return norm(x), layers.LayerNormalization()(x), layers.LayerNormalization(epsilon=1e-5)(x)


@trap("`GELU()`", "`keras.ops.gelu(x)`, which approximates", "`approximate=False`")
def gelu() -> Outputs:
    x = torch.randn(1000)
    return F.gelu(x), ops.gelu(x), ops.gelu(x, approximate=False)


@trap("`LeakyReLU()`", "`keras.layers.LeakyReLU()`, whose slope is 0.3", "`negative_slope=0.01`")
def leaky_relu() -> Outputs:
    x = torch.randn(1000)
    return F.leaky_relu(x), layers.LeakyReLU()(x), layers.LeakyReLU(negative_slope=0.01)(x)


@trap("`softmax(dim=1)` of an image", "`axis=1`", "`axis=-1`: the channels are last")
def channel_softmax() -> Outputs:
    x = image(5)
    return last(x.softmax(1)), ops.softmax(last(x), axis=1), ops.softmax(last(x), axis=-1)


def recurrent(module: Any, layer: Any, order: tuple[int, ...]) -> Any:
    x = torch.randn(2, 5, 4)
    torch.manual_seed(0)
    units, kernels = 6, []
    for weight in (module.weight_ih_l0, module.weight_hh_l0):
        blocks = weight.split(units)
        kernels.append(torch.cat([blocks[place] for place in order]).T)
    biases = [
        torch.cat([bias.split(units)[place] for place in order]) for bias in (module.bias_ih_l0, module.bias_hh_l0)
    ]
    bias = torch.stack(biases) if isinstance(module, nn.GRU) else biases[0] + biases[1]
    return x, filled(layer, x, *kernels, bias)


@trap("`GRU`: gates r, z, n", "the kernel in the same order", "the first two blocks change places")
def gru() -> Outputs:
    module = nn.GRU(4, 6, batch_first=True)
    x, obvious = recurrent(module, layers.GRU(6), (0, 1, 2))
    _, right = recurrent(module, layers.GRU(6), (1, 0, 2))
    return module(x)[0][:, -1], obvious(x), right(x)


@trap("`LSTM`: gates i, f, g, o", "reordered, as for the GRU", "the same order")
def lstm() -> Outputs:
    module = nn.LSTM(4, 6, batch_first=True)
    x, obvious = recurrent(module, layers.LSTM(6), (1, 0, 2, 3))
    _, right = recurrent(module, layers.LSTM(6), (0, 1, 2, 3))
    return module(x)[0][:, -1], obvious(x), right(x)


@trap("boolean mask of attention: `True` is left out", "the same mask", "`True` takes part: invert it")
def attention_mask() -> Outputs:
    q = torch.randn(1, 1, 5, 8)
    hidden = torch.ones(5, 5).triu(1).bool()
    scores = (q @ q.mT / 8**0.5).masked_fill(hidden, -float("inf"))
    found = [ops.nn.dot_product_attention(*[q.movedim(1, 2)] * 3, mask=mask[None, None]) for mask in (hidden, ~hidden)]
    return (scores.softmax(-1) @ q).movedim(1, 2), *found


@trap('`interpolate(scale 5 to 7, mode="nearest")`', '`resize(..., "nearest")`', "gather `floor(i * in / out)`")
def nearest() -> Outputs:
    x = image(5)
    obvious = ops.image.resize(last(x), (7, 7), interpolation="nearest")
    place = torch.arange(7) * 5 // 7
    return last(F.interpolate(x, size=7, mode="nearest")), obvious, last(x)[:, place][:, :, place]


@trap("`interpolate(align_corners=True)`", '`resize(..., "bilinear")`, which has no such option', "a matrix per axis")
def aligned_corners() -> Outputs:
    x = image(5)
    obvious = ops.image.resize(last(x), (9, 9), interpolation="bilinear")
    place = torch.linspace(0, 4, 9)
    matrix = (1 - (place[:, None] - torch.arange(5)).abs()).clamp(0)
    right = torch.einsum("ih,jw,bhwc->bijc", matrix, matrix, last(x))
    return last(F.interpolate(x, size=9, mode="bilinear", align_corners=True)), obvious, right


@trap(
    "`PixelShuffle(2)`", "`reshape(b, h, w, 2, 2, c)`", "`reshape(b, h, w, c, 2, 2)`: the block is inside the channel"
)
def pixel_shuffle() -> Outputs:
    x = torch.randn(2, 12, 4, 4)
    split = last(x).reshape(2, 4, 4, 2, 2, 3).permute(0, 1, 3, 2, 4, 5), last(x).reshape(2, 4, 4, 3, 2, 2)
    right = split[1].permute(0, 1, 4, 2, 5, 3).reshape(2, 8, 8, 3)
    return last(F.pixel_shuffle(x, 2)), split[0].reshape(2, 8, 8, 3), right


def distances(measure: Callable[[], Outputs]) -> tuple[float, float]:
    """Return the largest differences of the obvious and of the right translation from torch."""
    torch.manual_seed(0)
    expected, *found = (np.asarray(ops.convert_to_numpy(value)) for value in measure())
    obvious, right = (float(np.abs(value - expected).max()) for value in found)
    return obvious, right


def test_a_wrong_strided_convolution_agrees_at_odd_sizes() -> None:
    torch.manual_seed(0)
    expected, obvious, _ = convolved(33)
    assert torch.allclose(expected, obvious, rtol=0, atol=AGREES)


@pytest.mark.parametrize("row", TRAPS, ids=lambda row: row.measure.__name__)
def test_the_obvious_translation_is_wrong_and_the_right_one_agrees(row: Trap) -> None:
    obvious, right = distances(row.measure)
    assert obvious > 1e-4
    assert right < AGREES


def table() -> str:
    """Return the table of the page."""
    lines = [
        "| PyTorch | obvious in Keras | wrong by | right | left | test |",
        "| --- | --- | ---: | --- | ---: | --- |",
    ]
    for row in TRAPS:
        obvious, right = distances(row.measure)
        left = "0" if right == 0 else f"{right:.0e}"
        lines.append(
            f"| {row.torch} | {row.obvious} | {obvious:.2g} | {row.right} | {left} | `{row.measure.__name__}` |"
        )
    return "\n".join(lines) + "\n"


def without_measurements(text: str) -> list[list[str]]:
    """Return the cells of the table without the measured ones, which vary between machines."""
    rows = [[cell.strip() for cell in line.strip("| ").split(" | ")] for line in text.splitlines()]
    return [[cell for place, cell in enumerate(row) if place not in (2, 4)] for row in rows]


def test_the_page_lists_exactly_the_tested_pitfalls() -> None:
    shown = PAGE.read_text(encoding="utf-8").partition(BEGIN)[2].partition(END)[0]
    assert without_measurements(shown) == without_measurements(table())


if __name__ == "__main__":
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    PAGE.write_text(f"{before}{BEGIN}{table()}{END}{rest.partition(END)[2]}", encoding="utf-8")
