"""Every model of `keras.applications` becomes a torch module: proven, as trainable, compiled, exported, as fast.

    KERAS_BACKEND=torch python -m benchmarks bench_convert --check
    KERAS_BACKEND=torch python -m benchmarks bench_convert ResNet50 MobileNetV2 --no-compile

Weights are random. Where torchvision has a model of the same family, it is timed side by side with ours in one run, in
turns, on two threads, in eager mode.
"""

import argparse
import json
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

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


@dataclass(kw_only=True)
class Result:
    """What was found of one model.

    Attributes:
        name: The name of the function in `keras.applications`.
        certificate: Whether every proof passed; a proof that was skipped is none.
        trainable: Whether both have as many trainable numbers.
        compiled: Whether `torch.compile` makes one graph of it that returns the same.
        exported: Whether `torch.export` succeeds.
        lines: The length of the text.
        permutes: How many permutations are left in it.
        seconds: How long it took to convert, without the proof.
        ratio: Our time, torchvision's being one.
        said: What went wrong.
    """

    name: str
    certificate: bool = False
    trainable: bool = False
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
        return self.certificate and self.trainable and self.exported and self.compiled is not False and fast


def judged(name: str, *, compiles: bool) -> Result:
    """Converts one model and tries everything on it."""
    import keras
    import torch

    import keras3conv as k3c

    result = Result(name=name)
    size = SIZES.get(name, SIZE)
    model = make(name, size, weights_of=True)
    started = time.perf_counter()
    k3c.convert(model, validate=False)
    result.seconds = time.perf_counter() - started
    conversion = k3c.convert(model)
    report = conversion.report
    assert report is not None
    result.certificate = report.ok and not report.with_status("skipped")
    result.said = "" if result.certificate else str(report).splitlines()[1]
    result.lines, result.permutes = len(conversion.source.splitlines()), conversion.source.count("permute")
    numbers = sum(int(parameter.numel()) for parameter in conversion.model.parameters() if parameter.requires_grad)
    result.trainable = numbers == sum(int(keras.ops.size(variable)) for variable in model.trainable_variables)
    given = tuple(map(torch.from_numpy, conversion.inputs))
    export: Any = torch.export.export
    export(conversion.model, given)
    result.exported = True
    if compiles:
        result.compiled = agrees_compiled(conversion.model, given)
    if name in FAMILIES:
        result.ratio = ratio(name)
    return result


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
    """Whether the compiled module returns what the module does, up to float32."""
    import torch

    with torch.no_grad():
        expected = module(*given)
        compile_module: Any = torch.compile
        found = compile_module(module, fullgraph=True)(*given)
    return bool(torch.allclose(found, expected, rtol=1e-3, atol=1e-4 * float(expected.abs().max())))


def ratio(name: str) -> float:
    """Our time for one image of the usual size, torchvision's being one; both are run in turns."""
    import torch
    import torchvision

    import keras3conv as k3c

    ours = k3c.convert(make(name, TIMED_SIZE), validate=False).model.eval()
    theirs = getattr(torchvision.models, FAMILIES[name])(weights=None).eval()
    given = torch.randn(4, 3, TIMED_SIZE, TIMED_SIZE)
    before = torch.get_num_threads()
    torch.set_num_threads(THREADS)
    try:
        with torch.no_grad():
            times = [(seconds(ours, given), seconds(theirs, given)) for _ in range(ROUNDS + 2)][2:]
    finally:
        torch.set_num_threads(before)
    return median(one / other for one, other in times)


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
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("models", nargs="*", help="Names in keras.applications; all of them, if none is given.")
    parser.add_argument("--check", action="store_true", help="Exit with 1 if a model fails.")
    parser.add_argument("--no-compile", action="store_true", help="Leave torch.compile out: it takes most of the time.")
    parser.add_argument("--json", type=Path, help="Where the results are saved.")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    results = []
    for name in arguments.models or names():
        try:
            result = judged(name, compiles=not arguments.no_compile)
        except (ValueError, RuntimeError, TypeError, AttributeError) as error:  # the next model is tried all the same
            result = Result(name=name, said=f"{type(error).__name__}: {str(error).splitlines()[0]}")
        results.append(result)
        ratio_text = f"{result.ratio:.3f} x torchvision" if result.ratio else ""
        print(
            f"{name:<18} {'good' if result.good else 'BAD':<5} certificate {result.certificate!s:<6} "
            f"trainable {result.trainable!s:<6} compiled {result.compiled!s:<6} exported {result.exported!s:<6} "
            f"{result.lines:>4} lines {result.permutes:>3} permutes {result.seconds:>5.1f} s  "
            f"{ratio_text} {result.said}",
            flush=True,
        )
    if arguments.json:
        arguments.json.write_text(json.dumps([asdict(result) for result in results], indent=2))
    return int(arguments.check and not all(result.good for result in results))


if __name__ == "__main__":
    sys.exit(main())
