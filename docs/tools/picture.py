"""Draw docs/assets/error-by-depth.svg from a real run: a network converted right, and with one mistake.

Run it as `KERAS_BACKEND=jax python -m docs.tools.picture`: on the torch backend most layers are bit-identical. The
figures differ a little from machine to machine.
"""

import math
from pathlib import Path
from typing import Any

from keras3conv.report.plot import Drawing, Line, draw
from keras3conv.report.values import Plot, Series

FILE = Path(__file__).resolve().parents[1] / "assets" / "error-by-depth.svg"
BLOCKS, WIDTH, MISTAKE = 6, 64, 2

_STYLE = """\
svg { color: #1d1c1a; background: #fff; font: 13px system-ui, sans-serif; }
text { fill: #5f5b53; } .title { fill: #1d1c1a; font-weight: 600; font-size: 15px; }
.grid { stroke: #e2ded5; } path { fill: none; } .area { fill: #8d887d; fill-opacity: .13; }
.line0 { stroke: #2456c9; stroke-width: 2; } .line1 { stroke: #b3261e; stroke-width: 2; }
.floor { stroke: #77726a; stroke-width: 1.5; stroke-dasharray: 5 4; }
.dots0 { fill: #2456c9; } .dots1 { fill: #b3261e; }
@media (prefers-color-scheme: dark) {
  svg { background: #1e1e1b; } text { fill: #b5b0a5; } .title { fill: #ebe8e1; } .grid { stroke: #37352f; }
  .line0 { stroke: #86a8ff; } .line1 { stroke: #ff8f84; } .dots0 { fill: #86a8ff; } .dots1 { fill: #ff8f84; }
}"""


def measured() -> Plot:
    """Convert a network, once correctly and once with another epsilon in one layer; return the errors."""
    import keras
    import torch
    from torch import nn

    import keras3conv as k3c

    keras.utils.set_random_seed(1)
    torch.manual_seed(1)
    inputs = x = keras.Input((WIDTH,))
    for block in range(BLOCKS):
        x = keras.layers.Dense(WIDTH, name=f"block{block + 1}_dense")(x)
        x = keras.layers.LayerNormalization(epsilon=1e-3, name=f"block{block + 1}_norm")(x)
        x = keras.layers.Activation("tanh")(x)
    model = keras.Model(inputs, keras.layers.Dense(10, name="head")(x), name="network")

    def twin(*, mistake: bool) -> nn.Module:
        layers: list[nn.Module] = []
        for block in range(BLOCKS):
            epsilon = 1e-5 if mistake and block == MISTAKE else 1e-3
            layers += [nn.Linear(WIDTH, WIDTH), nn.LayerNorm(WIDTH, eps=epsilon), nn.Tanh()]
        return nn.Sequential(*layers, nn.Linear(WIDTH, 10))

    found, plans = {}, {}
    given = torch.randn(64, WIDTH)
    for mistake in (False, True):
        module = twin(mistake=mistake)
        plan = plans[mistake] = k3c.align(module, model)
        k3c.transfer(model, module, plan, accept_difference=True)
        report = k3c.validate(module, model, inputs=given, plan=plan, proofs=["activations"])
        found[mistake] = report.section("activations").plots[0]
    series = {line.is_floor: line.values for line in found[False].series if not line.is_limit}
    wrong = next(line.values for line in found[True].series if line.is_measured)
    names = [pair.keras for name in found[False].labels for pair in plans[True].pairs if pair.torch == name]
    return Plot(
        title="Largest difference of every layer, along the depth of a network",
        labels=tuple(names),
        series=(
            Series(name="converted by keras3conv", values=series[False]),
            Series(name="with one epsilon of 1e-5 for 1e-3", values=wrong),
            Series(name="noise floor: rounding of torch, measured", values=series[True]),
        ),
        unit="absolute difference",
    )


def svg(plot: Plot) -> str:
    """Return a plot as a picture that stands alone, in light and dark."""
    picture = draw(plot)
    width, height = picture.width, picture.height + 40
    parts: list[str] = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" role="img">',
        f"<title>{plot.title}</title><style>{_STYLE}</style>",
        f'<text class="title" x="{picture.left:g}" y="18">{plot.title}</text>',
        *_legend(picture),
        '<g transform="translate(0 40)">',
        *_axes(picture, plot.unit),
        *(part for line in picture.lines for part in _line(line)),
        "</g></svg>",
    ]
    return "\n".join(parts) + "\n"


def _legend(picture: Drawing) -> list[str]:
    parts, x = [], picture.left
    for line in picture.lines:
        parts.append(f'<path class="{line.style}" d="M{x:g} 36 h22"/><text x="{x + 28:g}" y="40">{line.name}</text>')
        x += 52 + 7 * len(line.name)
    return parts


def _axes(picture: Drawing, unit: str) -> list[str]:
    middle = (picture.top + picture.bottom) / 2
    parts = [f'<text transform="translate(14 {middle:g}) rotate(-90)" text-anchor="middle">{unit}</text>']
    for tick in picture.rows:
        parts.append(f'<path class="grid" d="M{picture.left:g} {tick.place:g} H{picture.right:g}"/>')
        parts.append(f'<text x="{picture.left - 8:g}" y="{tick.place + 4:g}" text-anchor="end">{tick.text}</text>')
    if picture.zero is not None:
        parts.append(f'<text x="{picture.left - 8:g}" y="{picture.zero + 4:g}" text-anchor="end">0</text>')
    for tick in picture.columns:
        turned = f"translate({tick.place + 3:g} {picture.bottom + 16:g}) rotate(-38)"
        parts.append(f'<text transform="{turned}" text-anchor="end">{tick.text}</text>')
    return parts


def _line(line: Line) -> list[str]:
    parts = [f'<path class="area" d="{line.area}"/>'] if line.area else []
    if line.path:
        parts.append(f'<path class="{line.style}" d="{line.path}"/>')
    dots: list[Any] = [dot for dot in line.dots if math.isfinite(dot.y)]
    style = line.style.replace("line", "dots")
    return parts + [f'<circle class="{style}" cx="{dot.x:g}" cy="{dot.y:g}" r="3"/>' for dot in dots]


if __name__ == "__main__":
    FILE.write_text(svg(measured()), encoding="utf-8")
