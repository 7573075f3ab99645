"""Compare the time of converted Keras models with the torch modules and with models of keras.applications.

    python -m benchmarks bench_to_keras_speed ResNet50 MobileNetV2
    python -m benchmarks bench_to_keras_speed --compile --table benchmarks/TO_KERAS_SPEED.md

On torch everything runs eagerly; JAX and TensorFlow run in processes of their own, compiled by XLA. The runs alternate,
on one thread, and a ratio is the median over the rounds of the quotients of processor times (`_paired`).
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from benchmarks._paired import Ratio, Work, ratio, rounds_of

PAIRS = {
    "ResNet50": "resnet50",
    "MobileNetV2": "mobilenet_v2",
    "DenseNet121": "densenet121",
    "ConvNeXtTiny": "convnext_tiny",
    "EfficientNetB0": "efficientnet_b0",
}
"""The names in keras.applications and in torchvision."""

SIZE, IMAGES = 96, 4

LIMIT = 1.1
"""The largest time of a converted model on torch, relative to the handwritten model."""

BY_HAND = "hand-written"


def measured(keras_name: str, rounds: int, *, compiled: bool, folder: Path) -> Iterator[Ratio]:
    """Yield the times on torch relative to the handwritten model; save the converted model in the folder."""
    import keras
    import torch

    import keras3conv as k3c
    from benchmarks._torchvision import torchvision_models

    torch.set_num_threads(1)
    torch.manual_seed(0)
    module = getattr(torchvision_models(), PAIRS[keras_name])(weights=None).eval()
    given = torch.randn(IMAGES, 3, SIZE, SIZE)
    image = given.permute(0, 2, 3, 1).contiguous()
    conversion = k3c.convert(module, inputs=given, validate=False)
    conversion.model.save(folder / "model.keras")
    made: Any = conversion.model
    by_hand = getattr(keras.applications, keras_name)(weights=None, input_shape=(SIZE, SIZE, 3))
    works: dict[str, Work] = {
        "converted": lambda: made(image, training=False),
        BY_HAND: lambda: by_hand(image, training=False),
        "torch": lambda: module(given),
    }
    if compiled:
        compile_module: Any = torch.compile
        fast = compile_module(module)
        works["torch, compiled"] = lambda: fast(given)
    with torch.no_grad():
        times = rounds_of(works, rounds)
    for name in works:
        if name != BY_HAND:
            yield ratio(keras_name, times, name, BY_HAND, LIMIT if name == "converted" else None)


def measured_compiled(keras_name: str, rounds: int, folder: Path) -> Ratio:
    """Return the time of the converted model on the backend of this process, compiled by XLA."""
    import keras
    import numpy as np

    models = {
        "converted": keras.models.load_model(folder / "model.keras"),
        BY_HAND: getattr(keras.applications, keras_name)(weights=None, input_shape=(SIZE, SIZE, 3)),
    }
    image = np.random.default_rng(0).normal(size=(IMAGES, SIZE, SIZE, 3)).astype("float32")
    times = rounds_of({name: _compiled(model, image) for name, model in models.items()}, rounds)
    return ratio(keras_name, times, "converted", BY_HAND)


def _compiled(model: Any, image: Any) -> Work:
    import keras

    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        called: Any = tf.function(lambda given: model(given, training=False), jit_compile=True)
        return lambda: called(image).numpy()
    import jax

    weights = [
        [variable.value for variable in found] for found in (model.trainable_variables, model.non_trainable_variables)
    ]
    run = jax.jit(lambda given: model.stateless_call(*weights, given, training=False)[0])
    return lambda: run(image).block_until_ready()


def on_backend(backend: str, keras_name: str, rounds: int, folder: Path) -> Ratio:
    """Return the time of the converted model that `measured` saved, in a process with another backend."""
    command = [sys.executable, "-m", "benchmarks", "bench_to_keras_speed", keras_name, "--rounds", str(rounds)]
    environment = {**os.environ, "KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3"}
    done = subprocess.run(
        [*command, "--saved", str(folder)], env=environment, stdout=subprocess.PIPE, text=True, check=True
    )
    row = json.loads(done.stdout.splitlines()[-1])
    return Ratio(**{key: value for key, value in row.items() if key != "verdict"})


_HEAD = """# Speed of PyTorch models as Keras 3 models

Written by `python -m benchmarks bench_to_keras_speed --compile --table benchmarks/TO_KERAS_SPEED.md`; {versions}.
The time of a batch of {images} images of {size} x {size} pixels on one thread, divided by the time of the hand-written
model of the same family in `keras.applications` on the same backend: the median over {rounds} rounds of the quotients
of processor times, and in brackets their spread. A quotient below 1 is faster than the hand-written model. On torch
both run eagerly; on JAX and TensorFlow both are compiled by XLA (`jit_compile`). A ratio with a spread above 15 % is
refused. There is no column for a way through ONNX: no package makes a Keras 3 model of an ONNX file.

| model | torch backend | torch module, eager | torch module, compiled | JAX | TensorFlow |
| - | -: | -: | -: | -: | -: |"""


def table(rows: dict[str, dict[str, Ratio]], rounds: int) -> str:
    """Return the ratios in Markdown."""
    import keras
    import torch

    versions = f"Keras {keras.__version__}, torch {torch.__version__}"
    lines = [_HEAD.format(versions=versions, images=IMAGES, size=SIZE, rounds=rounds)]
    columns = ("converted", "torch", "torch, compiled", "jax", "tensorflow")
    lines += [f"| {name} | {' | '.join(_cell(found.get(one)) for one in columns)} |" for name, found in rows.items()]
    return "\n".join([*lines, ""])


def _cell(ratio: Ratio | None) -> str:
    if ratio is None:
        return ""
    return f"{ratio.processor:.2f} ({ratio.spread:.0%})" if not ratio.is_refused else f"refused ({ratio.spread:.0%})"


def _all(names: Iterable[str], rounds: int, *, compiled: bool, backends: Iterable[str]) -> dict[str, dict[str, Ratio]]:
    rows: dict[str, dict[str, Ratio]] = {}
    for name in names:
        with tempfile.TemporaryDirectory() as folder:
            found = {one.name: one for one in measured(name, rounds, compiled=compiled, folder=Path(folder))}
            found |= {backend: on_backend(backend, name, rounds, Path(folder)) for backend in backends}
        rows[name] = found
        print(f"{name:<16} " + ", ".join(f"{key} {_cell(one)}" for key, one in found.items()), flush=True)
    return rows


def main() -> int:
    """Print a line for each model; with --check the exit status is 1 if a converted model is too slow on torch."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("models", nargs="*", default=[*PAIRS], help="Names in keras.applications.")
    parser.add_argument("--rounds", type=int, default=15, help="The number of rounds.")
    parser.add_argument("--compile", action="store_true", help="torch.compile too.")
    parser.add_argument("--torch-only", action="store_true", help="Leave out JAX and TensorFlow.")
    parser.add_argument("--table", type=Path, help="The Markdown file to write.")
    parser.add_argument("--saved", type=Path, help="Time the model saved in this folder on the backend of Keras only.")
    parser.add_argument("--check", action="store_true", help="Exit with 1 if a converted model is too slow on torch.")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    if arguments.saved:
        print(json.dumps(measured_compiled(arguments.models[0], arguments.rounds, arguments.saved).row()))
        return 0
    os.environ["KERAS_BACKEND"] = "torch"
    backends = () if arguments.torch_only else ("jax", "tensorflow")
    rows = _all(arguments.models, arguments.rounds, compiled=arguments.compile, backends=backends)
    if arguments.table:
        arguments.table.write_text(table(rows, arguments.rounds), encoding="utf-8")
    slow = sum(found["converted"].verdict == "missed" for found in rows.values())
    return int(arguments.check and slow > 0)


if __name__ == "__main__":
    raise SystemExit(main())
