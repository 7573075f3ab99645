"""Convert every model of `keras.applications` to torch, and measure whether the module is equal, trainable and fast.

    python -m benchmarks bench_convert --check
    python -m benchmarks bench_convert ResNet50 MobileNetV2 --compile inductor --speed
    python -m benchmarks bench_convert --table benchmarks/CONVERSION.md --json results.json

Weights are random. Every model is converted in a separate process. Keras runs on torch, except for models that Keras
cannot build on torch. Models with a result in the file of results are skipped; the table contains all results of the
file. If torchvision has a model of the same family, --speed measures it, too: see `_conversion_speed`.

`--to keras` measures the other direction, see `_to_keras`.
"""

import argparse
import copy
import json
import os
import subprocess
import sys
import tempfile
import time
import warnings
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from benchmarks._conversion_rows import Result, described, read, table
from benchmarks._conversion_speed import FAMILIES
from benchmarks._conversion_step import step_difference

SIZES = {
    "EfficientNetV2M": 128, "EfficientNetV2L": 96, "InceptionV3": 96, "InceptionResNetV2": 96, "NASNetLarge": 96,
    "NASNetMobile": 224, "Xception": 96,
}  # fmt: skip
SIZE = 64
"""The height and width of the images in the proof; small, because the proof runs in float64 several times."""

BACKENDS = {"NASNetLarge": "tensorflow", "NASNetMobile": "tensorflow"}
"""Models that Keras refuses to build on torch."""


def tried(result: Result, part: str) -> Result:
    """Run one part ("proof", "speed" or the name of a compiler), and add its result or its error."""
    try:
        if part == "proof":
            _prove(result)
        elif part == "speed":
            result.speed = _speed(result)
        else:
            result.compiled = part if _agrees_compiled(result, part) else "no"
    except (ValueError, RuntimeError, TypeError, AttributeError) as error:
        result.said = f"{part}: {type(error).__name__}: {str(error).splitlines()[0]}"
    return result


def _prove(result: Result) -> None:
    import keras
    import torch

    import keras3conv as k3c

    result.size, result.backend = SIZES.get(result.name, SIZE), keras.backend.backend()
    model = make(result.name, result.size, weights_of=True)
    started = time.perf_counter()
    conversion = k3c.convert(model)
    result.seconds, result.converted = time.perf_counter() - started, True
    report = conversion.report
    assert report is not None
    result.certificate = report.ok and not report.with_status("skipped")
    bad = [section.name for status in ("failed", "skipped") for section in report.with_status(status)]
    result.said = f"not passed: {', '.join(bad)}" if bad else ""
    result.lines, result.permutes = len(conversion.source.splitlines()), conversion.source.count("permute")
    result.trainable = sum(int(keras.ops.size(variable)) for variable in model.trainable_variables)
    result.trainable_torch = sum(int(p.numel()) for p in conversion.model.parameters() if p.requires_grad)
    export: Any = torch.export.export
    export(conversion.model, tuple(map(torch.from_numpy, conversion.inputs)))
    result.exported = True
    result.step = step_difference(model, conversion)


def make(name: str, size: int, *, weights_of: bool = False) -> Any:
    """Return a model of `keras.applications` with random, non-degenerate weights."""
    import keras
    import numpy as np

    from keras3conv.frameworks.keras import model as keras_side

    model = getattr(keras.applications, name)(weights=None, input_shape=(size, size, 3))
    if weights_of:
        generator = np.random.default_rng(0)
        view = keras_side.view(model)
        values = {tensor.path: view.read(tensor.path) for tensor in view.tensors() if not tensor.is_seed}
        constant = {path: value for path, value in values.items() if value.size and value.flat[0] and not np.ptp(value)}
        spread = {path: generator.uniform(0.5, 1.5, value.shape).astype("float32") for path, value in constant.items()}
        keras_side.write(model, spread)
        _measure_statistics(model, generator.standard_normal((4, size, size, 3)).astype("float32"))
    return model


def _measure_statistics(model: Any, images: Any) -> None:
    """Set the moving statistics to those of some images; with the initial ones deep models overflow."""
    import keras

    norms = [one for one in model._flatten_layers() if isinstance(one, keras.layers.BatchNormalization)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    model(images, training=True)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum


def _speed(result: Result) -> dict[str, float]:
    import keras3conv as k3c
    from benchmarks import _conversion_speed as speed

    ours = k3c.convert(make(result.name, speed.SIZE), validate=False).model.eval()
    return asdict(speed.measured(result.name, ours))


def _agrees_compiled(result: Result, backend: str) -> bool:
    """Return whether the compiled module returns the same as the module, up to the module's float32 noise."""
    import torch

    import keras3conv as k3c
    from keras3conv.numerics.judgement import judge

    conversion = k3c.convert(make(result.name, result.size, weights_of=True), validate=False)
    module, given = conversion.model, tuple(map(torch.from_numpy, conversion.inputs))
    with torch.no_grad():
        expected = module(*given)
        truth = copy.deepcopy(module).double()(*(value.double() for value in given))
        compile_module: Any = torch.compile
        found = compile_module(module, fullgraph=True, backend=backend)(*given)
    return judge(found.numpy(), expected.numpy(), truth.numpy()).passed


def names() -> list[str]:
    """Return the names of all models of `keras.applications`."""
    import keras

    return [name for name in dir(keras.applications) if name[0].isupper()]


def main() -> int:
    """Print a line for every model; with --check the exit status is 1 if a measured part of a model failed."""
    if sys.argv[1:3] == ["--to", "keras"]:
        from benchmarks import _to_keras

        return _to_keras.main(sys.argv[3:])
    arguments = _arguments()
    warnings.simplefilter("ignore")
    if arguments.part:
        (result,) = read(arguments.json).values()
        arguments.json.write_text(json.dumps([asdict(tried(result, arguments.part))]))
        return 0
    results = read(arguments.json)
    chosen = arguments.models or names()
    for name in chosen:
        for part in _parts(results.get(name), name, arguments):
            results[name] = _in_a_process(results.get(name, Result(name=name)), part)
            if arguments.json:
                arguments.json.write_text(json.dumps([asdict(result) for result in results.values()], indent=2))
        print(described(results[name]), flush=True)
        if arguments.table:
            arguments.table.write_text(table(results.values(), names(), BACKENDS))
    return int(arguments.check and not all(results[name].good for name in chosen))


def _parts(known: Result | None, name: str, arguments: argparse.Namespace) -> list[str]:
    """Return the parts of a model that are requested and not yet measured."""
    parts = ["proof"] if known is None or not known.converted else []
    if arguments.compile and (known is None or known.compiled not in ("inductor", arguments.compile)):
        parts.append(arguments.compile)
    if arguments.speed and name in FAMILIES and (known is None or known.speed is None):
        parts.append("speed")
    return parts


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("models", nargs="*", help="Names in keras.applications; all of them, if none is given.")
    parser.add_argument("--check", action="store_true", help="Exit with 1 if a model fails.")
    parser.add_argument("--compile", choices=("inductor", "aot_eager"), help="torch.compile too: it takes longest.")
    parser.add_argument("--speed", action="store_true", help="The time too, where torchvision has such a model.")
    parser.add_argument("--json", type=Path, help="Where the results are kept; what is there is not tried again.")
    parser.add_argument("--table", type=Path, help="The Markdown file that the results are written to.")
    parser.add_argument("--part", help=argparse.SUPPRESS)
    return parser.parse_args()


def _in_a_process(result: Result, part: str) -> Result:
    """Measure a part in a separate process, on the Keras backend that can build the model; return the result."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "result.json"
        path.write_text(json.dumps([asdict(result)]))
        command = [sys.executable, "-m", "benchmarks", "bench_convert", "--part", part, "--json", str(path)]
        # Waiting threads sleep, so that other processes on the machine can use the cores.
        own = {"KERAS_BACKEND": BACKENDS.get(result.name, "torch"), "OMP_WAIT_POLICY": "PASSIVE"}
        finished = subprocess.run(command, check=False, capture_output=True, text=True, env={**os.environ, **own})
        if finished.returncode:
            said = (finished.stderr.strip().splitlines() or [f"exit status {finished.returncode}"])[-1]
            return replace(result, said=f"{part}: {said}")
        return read(path)[result.name]


if __name__ == "__main__":
    sys.exit(main())
