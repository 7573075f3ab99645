"""Every model of `keras.applications` becomes a torch module: proven, as trainable, compiled, exported, as fast.

    KERAS_BACKEND=torch python -m benchmarks bench_convert --check
    KERAS_BACKEND=torch python -m benchmarks bench_convert ResNet50 MobileNetV2 --compile
    KERAS_BACKEND=torch python -m benchmarks bench_convert --table benchmarks/CONVERSION.md --json results.json

Weights are random. Every model has a process of its own. What is in the file of results is not judged again, and the
table is made of everything that is in it. Where torchvision has a model of the same family, it is timed beside ours in
one run, in turns, on two threads, in eager mode: the quickest of the rounds counts, on both sides.
"""

import argparse
import copy
import json
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks._conversion_step import step_difference

SIZES = {"InceptionV3": 96, "InceptionResNetV2": 96, "Xception": 96, "NASNetLarge": 331, "NASNetMobile": 224}
SIZE = 64
"""The height and width of the images in the proof; small, because the proof runs in float64 several times."""

FAMILIES = {
    "ConvNeXtTiny": "convnext_tiny",
    "DenseNet121": "densenet121",
    "EfficientNetB0": "efficientnet_b0",
    "MobileNetV2": "mobilenet_v2",
    "MobileNetV3Large": "mobilenet_v3_large",
    "ResNet50": "resnet50",
    "VGG16": "vgg16",
}
"""Models that torchvision has too."""

SLOWER = 1.05
"""How many times torchvision's time ours may take."""

THREADS, ROUNDS, TIMED_SIZE = 2, 9, 224

STEP = 1e-7
"""How far two weights may be apart after a step of SGD in float64, relative to how far the step moved them."""


@dataclass(kw_only=True)
class Result:
    """What was found of one model.

    Attributes:
        name: The name of the function in `keras.applications`.
        converted: Whether there is a module.
        certificate: Whether every proof passed; a proof that was skipped is none.
        trainable: How many trainable numbers the Keras model has.
        trainable_torch: How many the module has.
        step: How far the weights are apart after one step of SGD in float64, relative to the step.
        compiled: Whether `torch.compile` makes one graph of it that returns the same; None if it was not tried.
        exported: Whether `torch.export` succeeds.
        lines: The length of the text.
        permutes: How many permutations are left in it.
        seconds: How long conversion and proof took.
        ratio: Our time, torchvision's being one.
        said: What went wrong.
    """

    name: str
    converted: bool = False
    certificate: bool = False
    trainable: int = 0
    trainable_torch: int = 0
    step: float | None = None
    compiled: bool | None = None
    exported: bool = False
    lines: int = 0
    permutes: int = 0
    seconds: float = 0.0
    ratio: float | None = None
    said: str = ""

    @property
    def good(self) -> bool:
        """Whether everything that was tried succeeded."""
        fast = self.ratio is None or self.ratio <= SLOWER
        steps = self.step is not None and self.step <= STEP and self.trainable == self.trainable_torch
        return self.certificate and steps and self.exported and self.compiled is not False and fast


def judged(name: str, *, compiles: bool) -> Result:
    """Converts one model and tries everything on it; what raises ends it, and is said."""
    result = Result(name=name)
    try:
        _judge(result, compiles=compiles)
    except (ValueError, RuntimeError, TypeError, AttributeError) as error:
        result.said = f"{type(error).__name__}: {str(error).splitlines()[0]}"
    return result


def _judge(result: Result, *, compiles: bool) -> None:
    import keras
    import torch

    import keras3conv as k3c

    name = result.name
    model = make(name, SIZES.get(name, SIZE), weights_of=True)
    started = time.perf_counter()
    conversion = k3c.convert(model)
    result.seconds, result.converted = time.perf_counter() - started, True
    report = conversion.report
    assert report is not None
    result.certificate = report.ok and not report.with_status("skipped")
    result.said = "" if result.certificate else str(report).splitlines()[1]
    result.lines, result.permutes = len(conversion.source.splitlines()), conversion.source.count("permute")
    result.trainable = sum(int(keras.ops.size(variable)) for variable in model.trainable_variables)
    result.trainable_torch = sum(int(p.numel()) for p in conversion.model.parameters() if p.requires_grad)
    given = tuple(map(torch.from_numpy, conversion.inputs))
    export: Any = torch.export.export
    export(conversion.model, given)
    result.exported = True
    if compiles:
        result.compiled = agrees_compiled(conversion.model, given)
    result.step = step_difference(model, conversion)
    if name in FAMILIES:
        result.ratio = ratio(name)


def make(name: str, size: int, *, weights_of: bool = False) -> Any:
    """A model of `keras.applications` with random weights that hide nothing."""
    import keras
    import numpy as np

    from keras3conv.frameworks import keras_side

    model = getattr(keras.applications, name)(weights=None, input_shape=(size, size, 3))
    if weights_of:
        generator = np.random.default_rng(0)
        norms = ("gamma", "moving_variance")
        values = {
            tensor.path: generator.uniform(0.5, 1.5, tensor.shape).astype("float32")
            for tensor in keras_side.view(model).tensors()
            if tensor.role in norms
        }
        keras_side.write(model, values)
    return model


def agrees_compiled(module: Any, given: tuple[Any, ...]) -> bool:
    """Whether the compiled module returns what the module does, up to the module's own noise in float32."""
    import torch

    from keras3conv.compare import judge

    with torch.no_grad():
        expected = module(*given)
        truth = copy.deepcopy(module).double()(*(value.double() for value in given))
        compile_module: Any = torch.compile
        found = compile_module(module, fullgraph=True)(*given)
    return judge(found.numpy(), expected.numpy(), truth.numpy()).passed


def ratio(name: str) -> float:
    """Our time for one image of the usual size, torchvision's being one; both are run in turns."""
    import torch

    import keras3conv as k3c
    from benchmarks._torchvision import torchvision_models

    ours = k3c.convert(make(name, TIMED_SIZE), validate=False).model.eval()
    theirs = getattr(torchvision_models(), FAMILIES[name])(weights=None).eval()
    given = torch.randn(4, 3, TIMED_SIZE, TIMED_SIZE)
    before = torch.get_num_threads()
    torch.set_num_threads(THREADS)
    try:
        with torch.no_grad():
            times = [(seconds(ours, given), seconds(theirs, given)) for _ in range(ROUNDS + 2)][2:]
    finally:
        torch.set_num_threads(before)
    return min(one for one, _ in times) / min(other for _, other in times)


def seconds(call: Callable[[Any], Any], given: Any) -> float:
    """How long one call takes."""
    started = time.perf_counter()
    call(given)
    return time.perf_counter() - started


def names() -> list[str]:
    """Every model of `keras.applications`."""
    import keras

    return [name for name in dir(keras.applications) if name[0].isupper()]


def main() -> int:
    """Prints a line for every model; with --check the exit status is 1 if one of them is not as it should be."""
    arguments = _arguments()
    warnings.simplefilter("ignore")
    if arguments.one:
        arguments.json.write_text(json.dumps(asdict(judged(arguments.one, compiles=arguments.compile))))
        return 0
    results = _read(arguments.json)
    chosen = arguments.models or names()
    for name in chosen:
        if name not in results:
            results[name] = _in_a_process(name, compiles=arguments.compile)
            if arguments.json:
                arguments.json.write_text(json.dumps([asdict(result) for result in results.values()], indent=2))
        print(_line(results[name]), flush=True)
        if arguments.table:
            arguments.table.write_text(table(results.values()))
    return int(arguments.check and not all(results[name].good for name in chosen))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("models", nargs="*", help="Names in keras.applications; all of them, if none is given.")
    parser.add_argument("--check", action="store_true", help="Exit with 1 if a model fails.")
    parser.add_argument("--compile", action="store_true", help="torch.compile too: it takes most of the time.")
    parser.add_argument("--json", type=Path, help="Where the results are kept; what is there is not judged again.")
    parser.add_argument("--table", type=Path, help="The Markdown file that the results are written to.")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    return parser.parse_args()


def _read(path: Path | None) -> dict[str, Result]:
    if path is None or not path.exists():
        return {}
    return {result["name"]: Result(**result) for result in json.loads(path.read_text())}


def _in_a_process(name: str, *, compiles: bool) -> Result:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "result.json"
        command = [sys.executable, "-m", "benchmarks", "bench_convert", "--one", name, "--json", str(path)]
        command += ["--compile"] if compiles else []
        finished = subprocess.run(command, check=False, capture_output=True, text=True)
        if finished.returncode or not path.exists():
            said = (finished.stderr.strip().splitlines() or [f"exit status {finished.returncode}"])[-1]
            return Result(name=name, said=said)
        return Result(**json.loads(path.read_text()))


def _line(result: Result) -> str:
    return (
        f"{result.name:<18} {'good' if result.good else 'BAD':<5} certificate {result.certificate!s:<6} "
        f"trainable {result.trainable_torch} of {result.trainable} step {result.step} "
        f"compiled {result.compiled!s:<6} exported {result.exported!s:<6} {result.lines:>4} lines "
        f"{result.permutes:>3} permutes {result.seconds:>5.1f} s  x torchvision {result.ratio} {result.said}"
    )


_HEAD = """# Every model of keras.applications, as a torch module

Written by `python -m benchmarks bench_convert --table benchmarks/CONVERSION.md`; {versions}.
Weights are random. A step is one step of SGD in float64, in training mode without dropout: the largest difference of a
weight afterwards, relative to how far the step moved it. Speed is our time, torchvision's being 1, in eager mode on two
threads, with images of 224 x 224 in turns: the quickest of {rounds} rounds on both sides. An empty cell was not tried.

| model | converted | certificate | trainable, Keras | and torch | SGD step | export | compile | speed | lines | |
| --- | --- | --- | ---: | ---: | ---: | --- | --- | ---: | ---: | --- |"""


def table(results: Iterable[Result]) -> str:
    """The results in Markdown."""
    import keras
    import torch

    found = sorted(results, key=lambda result: result.name)
    missing = [name for name in names() if name not in {result.name for result in found}]
    yes = {True: "yes", False: "**no**", None: ""}
    versions = f"Keras {keras.__version__}, torch {torch.__version__}"
    lines = [_HEAD.format(versions=versions, rounds=ROUNDS)]
    for r in found:
        step = "" if r.step is None else f"{r.step:.0e}"
        speed = "" if r.ratio is None else f"{r.ratio:.2f}"
        lines.append(
            f"| {r.name} | {yes[r.converted]} | {yes[r.certificate]} | {r.trainable:,} | {r.trainable_torch:,} "
            f"| {step} | {yes[r.exported]} | {yes[r.compiled]} | {speed} | {r.lines} | {r.said} |"
        )
    lines += ["", f"Not run: {', '.join(missing)}."] if missing else []
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    sys.exit(main())
