"""Measure the time of `validate` and the size of the HTML page of its report, for a ResNet-50 on both sides.

    python -m benchmarks bench_validate --check

The reference is the work that cannot be avoided: one eager forward pass of each side on the same inputs, as one would
write it without this library. The measured noise floor needs torch in float64 as well, so its reference is three
forwards; the one in float64 casts the weights first. The tasks run in turns, and the shortest time of each counts: the
others were disturbed by other load.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import keras
import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

import keras3conv as k3c
from keras3conv.report.report import Report
from keras3conv.report.values import Plot, Section, Series, Table

STAGES = ((64, 3), (128, 4), (256, 6), (512, 3))
"""The width and the number of blocks of every stage of a ResNet-50."""

SIZE, BATCH = 64, 2
"""The images for the whole certificate; small, because its time depends on the layers, not the pixels."""

FULL_LIMIT = 60.0
"""The largest time in seconds of the whole certificate with all backends but without ONNX, on two cores."""

OUTPUTS_LIMIT = 1.10
"""The largest time of the proof `outputs` alone: with a tolerance relative to two forward passes, with the noise floor
relative to three."""


@dataclass(frozen=True)
class Images:
    """The inputs of a measurement: the image size, the batch size, and the number of rounds."""

    size: int
    batch: int
    rounds: int

    def __str__(self) -> str:
        return f"{self.batch} images of {self.size} x {self.size}"


REALISTIC, SMALL = Images(224, 8, 5), Images(64, 2, 15)
"""Typical inputs of a ResNet-50, and inputs so small that the overhead beside the forward passes is visible."""

PAGE_LIMIT = 2_000_000
"""The largest size in bytes of the page for a model with 500 layers."""


class Bottleneck(nn.Module):
    """Three convolutions and a shortcut."""

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        self.parts = nn.ModuleList(
            nn.Sequential(nn.Conv2d(before, after, size, step, size // 2, bias=False), nn.BatchNorm2d(after))
            for before, after, size, step in (
                (inputs, width, 1, 1), (width, width, 3, stride), (width, 4 * width, 1, 1)
            )
        )  # fmt: skip
        changes = stride > 1 or inputs != 4 * width
        shortcut = nn.Conv2d(inputs, 4 * width, 1, stride, bias=False), nn.BatchNorm2d(4 * width)
        self.shortcut = nn.Sequential(*shortcut) if changes else nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the sum of the input and the output of the convolutions."""
        shortcut, found = self.shortcut(x), x
        for place, part in enumerate(self.parts):
            found = part(found)
            found = torch.relu(found) if place < 2 else found
        return torch.relu(found + shortcut)


class ResNet50(nn.Module):
    """A ResNet-50 for a thousand classes."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64), nn.ReLU())
        self.pool = nn.MaxPool2d(3, 2, 1)
        blocks, channels = [], 64
        for stage, (width, number) in enumerate(STAGES):
            for place in range(number):
                blocks.append(Bottleneck(channels, width, 2 if stage and not place else 1))
                channels = 4 * width
        self.blocks = nn.Sequential(*blocks)
        self.head = nn.Linear(channels, 1000)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map images to a thousand scores."""
        scores: torch.Tensor = self.head(self.blocks(self.pool(self.stem(x))).mean((2, 3)))
        return scores


def keras_twin() -> keras.Model:
    """Return the same network in Keras."""

    def convolved(x: Any, width: int, size: int, stride: int) -> Any:
        x = keras.layers.ZeroPadding2D(size // 2)(x) if size > 1 else x
        x = keras.layers.Conv2D(width, size, strides=stride, use_bias=False)(x)
        return keras.layers.BatchNormalization(epsilon=1e-5, momentum=0.9)(x)

    inputs = keras.Input((None, None, 3))
    x = keras.layers.ReLU()(convolved(inputs, 64, 7, 2))
    x = keras.layers.MaxPooling2D(3, 2)(
        keras.layers.ZeroPadding2D(1)(x)
    )  # after a ReLU, padding with zeros is equivalent to -inf
    for stage, (width, number) in enumerate(STAGES):
        for place in range(number):
            stride = 2 if stage and not place else 1
            shortcut = convolved(x, 4 * width, 1, stride) if not place else x
            y = keras.layers.ReLU()(convolved(x, width, 1, 1))
            y = keras.layers.ReLU()(convolved(y, width, 3, stride))
            x = keras.layers.ReLU()(keras.layers.Add()([convolved(y, 4 * width, 1, 1), shortcut]))
    return keras.Model(inputs, keras.layers.Dense(1000)(keras.layers.GlobalAveragePooling2D()(x)), name="resnet50")


def shortest(works: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Return the shortest time of each task over several alternating rounds, after a warm-up round."""
    found = dict.fromkeys(works, float("inf"))
    for round_number in range(rounds + 1):
        for name, work in works.items():
            start = time.perf_counter()
            work()
            if round_number:
                found[name] = min(found[name], time.perf_counter() - start)
    return found


def page_size(layers: int) -> int:
    """Return the size in bytes of the page of a report with this number of layers and all tables and plots."""
    names = tuple(f"encoder.layers.{place}.attention.self.query" for place in range(layers))
    random = np.random.default_rng(0)

    def series(name: str) -> Series:
        return Series(name=name, values=tuple(random.uniform(1e-9, 1e-6, layers)))

    rows = tuple((name, name.replace(".", "/"), *random.uniform(0, 1e-6, 4), "") for name in names)
    columns = ("torch", "keras", "largest difference", "in isolation", "noise floor", "ratio", "note")
    lines = ("whole model", "in isolation", "noise floor")
    plot = Plot(title="depth", labels=names, series=tuple(map(series, lines)), unit="absolute difference")
    fields = tuple((name, field, "1", name, field, "1", "1", "equal") for name in names for field in "abcdefgh")
    sections = (
        Section(name="activations", status="passed", claim="c", summary="s", plots=(plot, plot),
                tables=(Table(columns=columns, rows=rows),)),
        Section(name="float64", status="passed", claim="c", summary="s", plots=(plot,),
                tables=(Table(columns=columns, rows=rows),)),
        Section(name="hyperparameters", status="passed", claim="c", summary="s",
                tables=(Table(columns=tuple("abcdefgh"), rows=fields),)),
    )  # fmt: skip
    return len(Report(title="t", sections=sections).to_html().encode())


def forwards(module: nn.Module, model: keras.Model, inputs: NDArray[np.float32]) -> dict[str, Callable[[], object]]:
    """Return functions for one forward pass of each side, and one of torch in float64."""
    ours, theirs = torch.from_numpy(inputs), keras.ops.convert_to_tensor(np.moveaxis(inputs, 1, -1).copy())

    def wide() -> object:
        tensors = [*module.named_parameters(), *module.named_buffers()]
        cast = {name: tensor.double() for name, tensor in tensors if tensor.is_floating_point()}
        return torch.func.functional_call(module, cast, (ours.double(),))

    works: dict[str, Callable[[], object]] = {
        "torch": lambda: module(ours),
        "keras": lambda: model(theirs, training=False),
        "float64": wide,
    }
    return {name: torch.no_grad()(work) for name, work in works.items()}


def outputs_alone(module: nn.Module, model: keras.Model, plan: k3c.Alignment, images: Images) -> dict[str, float]:
    """Measure the time of `validate` if it compares the outputs alone, relative to the forward passes."""
    shape = (images.batch, 3, images.size, images.size)
    inputs = np.random.default_rng(0).standard_normal(shape).astype("float32")
    certify = partial(k3c.validate, module, model, inputs=inputs, plan=plan, proofs=["outputs"])
    tolerance = k3c.Tolerance(absolute=1e-4, relative=1e-4)
    works = forwards(module, model, inputs)
    works |= {"outputs": partial(certify, tolerance=tolerance), "floor": certify}
    found = shortest(works, images.rounds)
    two = found["torch"] + found["keras"]
    return {
        f"{images}: torch forward, seconds": found["torch"],
        f"{images}: keras forward, seconds": found["keras"],
        f"{images}: torch forward in float64, seconds": found["float64"],
        f"{images}: outputs, tolerance / two forwards": found["outputs"] / two,
        f"{images}: outputs, noise floor / three forwards": found["floor"] / (two + found["float64"]),
        f"{images}: outputs, noise floor / two forwards": found["floor"] / two,
    }


def measure() -> dict[str, float]:
    """Measure everything; the pair must pass, otherwise the measurements are meaningless."""
    module, model = ResNet50().eval(), keras_twin()
    inputs = np.random.default_rng(0).standard_normal((BATCH, 3, SIZE, SIZE)).astype("float32")
    plan = k3c.align(module, model, inputs=inputs).check()
    k3c.transfer(module, model, plan)
    start = time.perf_counter()
    report = k3c.validate(module, model, inputs=inputs, plan=plan, backends="all")
    full = time.perf_counter() - start
    report.raise_if_failed()
    with tempfile.TemporaryDirectory() as folder:
        size = report.save(Path(folder) / "report.html").size
    return {
        "load average": os.getloadavg()[0],
        "full certificate, seconds": full,
        **outputs_alone(module, model, plan, REALISTIC),
        **outputs_alone(module, model, plan, SMALL),
        "page of this model, bytes": float(size),
        "page of 500 layers, bytes": float(page_size(500)),
    }


def failures(row: dict[str, float]) -> list[str]:
    """Return a sentence for each missed limit."""
    limits = {
        "full certificate, seconds": FULL_LIMIT,
        **{f"{images}: outputs, tolerance / two forwards": OUTPUTS_LIMIT for images in (REALISTIC, SMALL)},
        **{f"{images}: outputs, noise floor / three forwards": OUTPUTS_LIMIT for images in (REALISTIC, SMALL)},
        "page of 500 layers, bytes": PAGE_LIMIT,
    }
    return [f"{name} is {row[name]:.4g}, the limit is {limit:g}" for name, limit in limits.items() if row[name] > limit]


def main() -> None:
    """Print the results; write them with --json; with --check a missed limit gives exit status 1."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument("--check", action="store_true", help="exit with 1 if a limit is missed")
    options = parser.parse_args()
    row = measure()
    for name, value in row.items():
        print(f"{name:<62} {value:>12,.4g}")
    if options.json:
        options.json.write_text(json.dumps(row, indent=1))
    missed = failures(row)
    print("".join(f"missed: {line}\n" for line in missed), end="")
    sys.exit(1 if missed and options.check else 0)


if __name__ == "__main__":
    main()
