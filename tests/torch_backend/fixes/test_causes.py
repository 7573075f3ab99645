"""The lines that a cause prints are applied to the code of the model, and the certificate passes then.

The code of a case has one place in double angle brackets, with what stands there before: an expression, a statement or
nothing, to which arguments are added. The line that the report prints is put there as it is.
"""

import re
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - the name that everybody gives it
from keras import layers, ops
from torch import nn

import keras3conv as k3c
from tests.support.fixes import are_arguments
from tests.support.models import randomize

PLACE = re.compile(r"<<(.*?)>>")


@dataclass(frozen=True)
class Case:
    """A mistake in the code of one side.

    Attributes:
        parts: The submodules of the torch module, as arguments.
        torch: The statements of its `forward`, which change `x`.
        keras: The statements of the Keras model, which change `x`.
        shape: The shape of a torch sample.
        printed: Words of the printed line for this place; another line is for the other side.
        dots: What the user has in place of the dots of the line.
    """

    parts: str
    torch: str
    keras: str
    shape: tuple[int, ...]
    printed: str = ""
    dots: str = "..."


VECTOR = 'x = layers.Dense(4, name="a")(x)'
HEAD = 'x = layers.Dense(3, name="b")(x)'
LINEAR = "a=nn.Linear(4, 4), b=nn.Linear(4, 3)"
IMAGE = 'x = layers.Conv2D(4, 1, name="a")(x)'
CONVS = "a=nn.Conv2d(4, 4, 1), b=nn.Conv2d(4, 3, 1)"
LAST = 'x = layers.Conv2D(3, 1, name="b")(x)'


def between(
    printed: str, torch_line: str, keras_line: str, parts: str = "", shape: tuple[int, ...] = (4,), dots: str = "..."
) -> Case:
    """Return a case whose lines stand between two layers: of vectors, of sequences, or of images."""
    first, last, convs = (IMAGE, LAST, CONVS) if len(shape) == 3 else (VECTOR, HEAD, LINEAR)
    return Case(
        parts=f"{convs}, {parts}",
        torch=f"x = self.a(x)\n{torch_line}\nx = self.b(x)",
        keras=f"{first}\n{keras_line}\n{last}",
        shape=shape,
        printed=printed,
        dots=dots,
    )


CASES = {
    "epsilon, in Keras": between(
        "epsilon=",
        "x = self.norm(x)",
        'x = layers.LayerNormalization(name="norm", epsilon=1e-3<<>>)(x)',
        "norm=nn.LayerNorm(4)",
    ),
    "epsilon, in torch": between(
        "nn.LayerNorm",
        "x = self.norm(x)",
        'x = layers.LayerNormalization(name="norm", epsilon=1e-3)(x)',
        "norm=<<nn.LayerNorm(4)>>",
    ),
    "slope": between(
        "nn.LeakyReLU",
        "x = self.act(x)",
        "x = ops.leaky_relu(x, negative_slope=0.3)",
        "act=<<nn.LeakyReLU(0.2)>>",
    ),
    "slope, in Keras": between(
        "leaky_relu", "x = self.act(x)", "<<x = ops.leaky_relu(x, negative_slope=0.3)>>", "act=nn.LeakyReLU(0.2)"
    ),
    "GELU, in Keras": between(
        "keras.activations.gelu", "x = self.act(x)", "<<x = ops.gelu(x, approximate=True)>>", "act=nn.GELU()"
    ),
    "another activation, in Keras": between(
        "keras.activations.tanh", "x = self.act(x)", "<<x = ops.relu(x)>>", "act=nn.Tanh()"
    ),
    "activation missing in Keras": between("keras.activations.tanh", "x = self.act(x)", "<<pass>>", "act=nn.Tanh()"),
    "border of an average": between(
        "count_include_pad=False",
        "x = self.pool(x)",
        'x = layers.AveragePooling2D(3, 1, padding="same")(x)',
        "pool=nn.AvgPool2d(3, 1, 1<<>>)",
        (4, 7, 7),
    ),
    "resizing": between(
        "F.interpolate",
        'x = <<F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)>>',
        'x = layers.UpSampling2D(2, interpolation="nearest")(x)',
        shape=(4, 5, 5),
        dots="scale_factor=2",
    ),
    "axis of a softmax": between(
        "softmax(...", "x = torch.<<softmax(x, dim=1)>>", "x = ops.softmax(x, axis=-1)", shape=(5, 4), dots="x"
    ),
    "scale in torch": between("x = x * 2.5", "<<pass>>", "x = x * 2.5"),
    "two parts exchanged": between(
        "parts = ",
        "parts = x.chunk(2, -1)\nx = torch.cat([parts[1], parts[0]], -1)",
        "parts = ops.split(x, 2, -1)\n<<pass>>\nx = ops.concatenate([parts[0], parts[1]], -1)",
    ),
    "backwards": between(
        "go_backwards=False",
        "x = self.lstm(x)[0]",
        'x = layers.LSTM(4, return_sequences=True, name="lstm", unroll=False, go_backwards=True<<>>)(x)',
        "lstm=nn.LSTM(4, 4, batch_first=True)",
        (5, 4),
    ),
}


def written(code: str, line: str | None) -> str:
    """Return code with a line at its place; without one, what stands there before."""
    if line is None:
        return PLACE.sub(r"\1", code)
    if are_arguments(line):
        names = [part.partition("=")[0].strip() for part in line.partition("#")[0].split(",")]
        for name in names:  # the argument replaces the one that is there
            code = re.sub(rf",? ?\b{name}=[^,()<]+", "", code)
    return PLACE.sub(lambda found: _at(found[1], line), code)


def _at(before: str, line: str) -> str:
    line = re.sub(r"\s+#.*", "", line)
    return f", {line}" if are_arguments(line) and not before else line


def made(case: Case, line: str | None) -> tuple[nn.Module, keras.Model]:
    """Return both models, with a line at the place of the mistake."""
    names: dict[str, Any] = {"nn": nn, "F": F, "torch": torch, "keras": keras, "layers": layers, "ops": ops}
    exec(written(f"parts = dict({case.parts})", line), names)  # noqa: S102 - our own code
    body = written(case.torch, line).replace("\n", "\n    ")
    exec(f"def forward(self, x):\n    {body}\n    return x", names)  # noqa: S102 - our own code
    module = type("Net", (nn.Module,), {"forward": names["forward"]})()
    for name, part in names["parts"].items():
        module.add_module(name, part)
    shape = case.shape if len(case.shape) != 3 else (*case.shape[1:], case.shape[0])
    names["x"] = given = keras.Input(shape)
    exec(written(case.keras, line), names)  # noqa: S102 - our own code
    return randomize(module), keras.Model(given, names["x"])


def report_of(case: Case, line: str | None) -> k3c.Report:
    module, model = made(case, line)
    plan = k3c.align(module, model, probe=False)
    k3c.transfer(module, model, plan)
    inputs = torch.tensor(np.random.default_rng(0).normal(size=(2, *case.shape)), dtype=torch.float32)
    return k3c.validate(module, model, inputs=inputs, alignment=plan, proofs=["float64"])


def printed_line(case: Case, report: k3c.Report) -> str:
    """Return the printed line for the place of a case."""
    fixes = [line for section in report.sections for problem in section.problems for line in problem.fixes]
    lines = [line for fix in fixes for line in fix.splitlines()]
    (line, *_) = [line for line in lines if case.printed in line] or [f"no such line in {lines}"]
    return line.replace("...", case.dots)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if place < 3 else pytest.mark.slow) for place, name in enumerate(CASES)]
)
def test_the_printed_line_of_a_cause_makes_the_certificate_pass(name: str) -> None:
    case = CASES[name]
    report = report_of(case, None)
    assert not report.ok
    line = printed_line(case, report)
    assert report_of(case, line).ok, line


def test_a_line_that_does_not_help_is_noticed() -> None:
    case = CASES["slope"]
    assert not report_of(case, "nn.LeakyReLU(0.25)").ok
