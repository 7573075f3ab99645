"""Define the measurements of a Keras model that is converted to torch, and write them as a table."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from benchmarks import _conversion_speed as speed

SLOWER = 1.05
"""The largest time of a converted module, relative to a handwritten one."""

STEP = 1e-7
"""The largest difference of weights after a step of SGD in float64, relative to the change that the step makes."""


@dataclass(kw_only=True)
class Result:
    """The measurements of one model.

    Attributes:
        name: The name of the function in `keras.applications`.
        converted: Whether the conversion returned a module.
        certificate: Whether every proof of `validate` passed; a proof that was skipped does not count as passed.
        trainable: The number of trainable elements of the Keras model.
        trainable_torch: The number of trainable elements of the module.
        step: The difference of the weights after one step of SGD in float64, relative to the step.
        compiled: The backend with which `torch.compile` makes one graph of the module that returns the same outputs;
        empty if it was not tried, "no" if it fails.
        exported: Whether `torch.export` succeeds.
        lines: The number of lines of the generated code.
        permutes: The number of permutations in the generated code.
        seconds: The seconds that conversion and proof took.
        size: The height and the width of the images.
        backend: The Keras backend.
        speed: The time and arithmetic relative to torchvision's modules; None if not measured.
        said: The error; empty if there is none.
    """

    name: str
    converted: bool = False
    certificate: bool = False
    trainable: int = 0
    trainable_torch: int = 0
    step: float | None = None
    compiled: str = ""
    exported: bool = False
    lines: int = 0
    permutes: int = 0
    seconds: float = 0.0
    size: int = 0
    backend: str = "torch"
    speed: dict[str, float] | None = None
    said: str = ""

    @property
    def good(self) -> bool:
        """True if every measured part succeeded."""
        fast = self.speed is None or self.speed["by_hand"] <= SLOWER
        steps = self.step is not None and self.step <= STEP and self.trainable == self.trainable_torch
        return self.certificate and steps and self.exported and self.compiled != "no" and fast


def read(path: Path | None) -> dict[str, Result]:
    """Return the results in a file by the name of the model; none if there is no file."""
    if path is None or not path.exists():
        return {}
    return {result["name"]: Result(**result) for result in json.loads(path.read_text())}


def described(result: Result) -> str:
    """Return a line about a model for the terminal."""
    shown = "" if result.speed is None else ", ".join(f"{name} {value:.2f}" for name, value in result.speed.items())
    return (
        f"{result.name:<18} {'good' if result.good else 'BAD':<5} certificate {result.certificate!s:<6} "
        f"trainable {result.trainable_torch} of {result.trainable} step {result.step} "
        f"compiled {result.compiled or '-':<9} exported {result.exported!s:<6} {result.lines:>4} lines "
        f"{result.permutes:>3} permutes {result.seconds:>5.1f} s  {shown} {result.said}"
    )


_HEAD = """# Every model of keras.applications, as a torch module

Written by `python -m benchmarks bench_convert --table benchmarks/CONVERSION.md`; {versions}.
Weights are random, moving statistics are those of a few random images, and the images of the proof have the size in the
table. Keras runs on torch; it refuses to build {others} there, so these run on TensorFlow. A
step is one step of SGD in float64, in training mode without dropout: the largest difference of a weight afterwards,
relative to how far the step moved it. Compile is `torch.compile` with `fullgraph=True` and the backend in the table,
whose output agrees; `aot_eager` makes and differentiates the same graph, and generates no code. An empty cell was not
tried.

Speed is the time that the processor spends in eager mode on two threads, with {images} images of {side} x {side}, in
turns with the others: the quickest of {rounds} rounds on each side. The first number is beside torchvision's model, the
second beside torchvision's model edited by hand to compute what Keras' does: the stride in the first convolution of a
bottleneck and biases (ResNet), more padding behind than before (EfficientNet, MobileNet), images normalised in the
model (ConvNeXt, EfficientNet), a softmax at the end. Arithmetic is the number of multiplications and additions,
torchvision's being 1.

| model | size | certificate | trainable, Keras | torch | SGD step | export | compile | speed | by hand | arithmetic | lines | |
| --- | ---: | --- | ---: | ---: | ---: | --- | --- | ---: | ---: | ---: | ---: | --- |"""  # noqa: E501 - a row of a table


def table(results: Iterable[Result], models: Iterable[str], others: Iterable[str]) -> str:
    """Return the results as Markdown.

    Args:
        results: The results.
        models: The names of all models; those without a result are listed below the table.
        others: The models that Keras refuses to build on torch.
    """
    import keras
    import torch

    found = sorted(results, key=lambda result: result.name)
    missing = [name for name in models if name not in {result.name for result in found}]
    head = _HEAD.format(
        versions=f"Keras {keras.__version__}, torch {torch.__version__}",
        others=" and ".join(others),
        images=speed.IMAGES,
        side=speed.SIZE,
        rounds=speed.ROUNDS,
    )
    return "\n".join([head, *map(_row, found), *(["", f"Not run: {', '.join(missing)}."] if missing else []), ""])


def _row(result: Result) -> str:
    yes = {True: "yes", False: "**no**"}
    step = "" if result.step is None else f"{result.step:.0e}"
    speeds = ("torchvision", "by_hand", "arithmetic")
    shown = ["" if result.speed is None else f"{result.speed[name]:.2f}" for name in speeds]
    cells = [
        result.name, str(result.size), yes[result.certificate], f"{result.trainable:,}", f"{result.trainable_torch:,}",
        step, yes[result.exported], result.compiled, *shown, str(result.lines), result.said,
    ]  # fmt: skip
    return f"| {' | '.join(cells)} |"
