"""Measure time and memory of the probe (the runs by which `align` pairs layers) against one run of each model.

    KERAS_BACKEND=torch python -m benchmarks bench_probe --check
    KERAS_BACKEND=torch python -m benchmarks bench_probe --batch 8

Both models have the layers of a ResNet-50 and random weights. The reference is one eager call of each side in its own
dtype, float32, without gradients, on all of the same inputs; the probe runs in float64, on one sample of them. Memory
is the peak of the process minus its memory with both models loaded and called; the recorded activations are what the
layers with weights return, in float64, as the probe records them.
"""

import argparse
import json
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

BLOCKS = ((64, 3), (128, 4), (256, 6), (512, 3))
"""Width and number of the bottlenecks of each stage."""

SIZE, BATCH = 224, 2

COST = 3.0
"""The largest time of the probe, as a multiple of the sum of one call of each side."""

MEMORY = 2.0
"""The largest additional memory of the probe, as a multiple of the two models and their recorded activations."""

SECONDS = 10.0
"""The largest time in seconds from two live models to a checked plan."""

ROUNDS = 3


def torch_twin() -> Any:
    """Return a ResNet-50 in torch, with its layers in call order."""
    import torch
    from torch import nn

    class Bottleneck(nn.Module):
        def __init__(self, inputs: int, width: int, stride: int) -> None:
            super().__init__()
            sizes = ((inputs, width, 1, 1, 0), (width, width, 3, stride, 1), (width, 4 * width, 1, 1, 0))
            steps: list[nn.Module] = []
            for given, made, kernel, step, padding in sizes:
                convolution = nn.Conv2d(given, made, kernel, step, padding, bias=False)
                steps += [convolution, nn.BatchNorm2d(made), nn.ReLU()]
            self.body = nn.Sequential(*steps[:-1])
            self.shortcut: nn.Module = nn.Identity()
            if stride > 1 or inputs != 4 * width:
                convolution = nn.Conv2d(inputs, 4 * width, 1, stride, bias=False)
                self.shortcut = nn.Sequential(convolution, nn.BatchNorm2d(4 * width))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.relu(self.body(x) + self.shortcut(x))

    stem = [nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64), nn.ReLU(), nn.MaxPool2d(3, 2, 1)]
    blocks: list[nn.Module] = []
    inputs = 64
    for stage, (width, count) in enumerate(BLOCKS):
        for place in range(count):
            blocks.append(Bottleneck(inputs, width, 2 if stage and not place else 1))
            inputs = 4 * width
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inputs, 1000)]
    return nn.Sequential(*stem, *blocks, *head).eval()


def keras_twin() -> Any:
    """Return the same network as a functional Keras model, channels last."""
    import keras
    from keras import layers

    def step(x: Any, width: int, kernel: int, stride: int = 1) -> Any:
        if kernel > 1:
            x = layers.ZeroPadding2D(kernel // 2)(x)
        x = layers.Conv2D(width, kernel, strides=stride, use_bias=False)(x)
        return layers.BatchNormalization(epsilon=1e-5)(x)

    inputs = keras.Input((SIZE, SIZE, 3))
    x = layers.ReLU()(step(inputs, 64, 7, 2))
    x = layers.MaxPooling2D(3, 2)(layers.ZeroPadding2D(1)(x))
    for stage, (width, count) in enumerate(BLOCKS):
        for place in range(count):
            stride = 2 if stage and not place else 1
            shortcut = step(x, 4 * width, 1, stride) if not place else x
            y = layers.ReLU()(step(x, width, 1))
            y = layers.ReLU()(step(y, width, 3, stride))
            x = layers.ReLU()(layers.add([step(y, 4 * width, 1), shortcut]))
    return keras.Model(inputs, layers.Dense(1000)(layers.GlobalAveragePooling2D()(x)))


def measure(batch: int) -> dict[str, float]:
    """Measure the times of one call of each side, of the probe, and of a complete checked plan; and the memory."""
    import numpy as np
    import torch

    import keras3conv as k3c
    from keras3conv.frameworks.shared import inputs
    from keras3conv.frameworks.sides import both_inputs, view
    from keras3conv.frameworks.torch import module as torch_side
    from keras3conv.planner.probe import run as probing

    module, model = torch_twin(), keras_twin()
    images = np.random.default_rng(0).standard_normal((batch, 3, SIZE, SIZE)).astype("float32")
    views = view(module), view(model)
    given = both_inputs(*views, images, None)
    tensors = torch.from_numpy(images)
    with torch.no_grad():
        torch_seconds = seconds_of(lambda: module(tensors))
        keras_seconds = seconds_of(lambda: model(given.keras, training=False))
    before = peak_bytes()
    probe_seconds = seconds_of(lambda: probing.probe(module, model, views, given, {}), rounds=1)
    added = peak_bytes() - before
    probe_seconds = min(probe_seconds, seconds_of(lambda: probing.probe(module, model, views, given, {})))
    weights = sum(parameter.numel() * 4 for parameter in module.parameters())
    wanted = {layer.path for layer in views[0].layers if layer.tensors}
    probed = torch.from_numpy(images[: inputs.SAMPLES])  # the number of samples that the probe takes
    recorded = torch_side.run(module, probed, record=lambda path: path in wanted, float64=True)
    activations = sum(array.nbytes for call in recorded.calls for array in call.outputs)
    plan_seconds = seconds_of(lambda: k3c.align(module, model, inputs=images).check(), rounds=1)
    return {
        "batch": batch,
        "torch_seconds": torch_seconds,
        "keras_seconds": keras_seconds,
        "probe_seconds": probe_seconds,
        "times": probe_seconds / (torch_seconds + keras_seconds),
        "plan_seconds": plan_seconds,
        "models_bytes": 2.0 * weights,
        "activations_bytes": float(activations),
        "added_bytes": float(added),
        "memory": added / (2 * weights + activations),
    }


def seconds_of(action: Callable[[], object], rounds: int = ROUNDS) -> float:
    """Return the shortest time of several runs, after a warm-up run if there are several."""
    found = []
    for _ in range(rounds + (rounds > 1)):
        start = time.perf_counter()
        action()
        found.append(time.perf_counter() - start)
    return min(found)


def peak_bytes() -> int:
    """Return the peak memory of this process in bytes."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def failures(row: dict[str, float]) -> list[str]:
    """Return a sentence for each missed limit."""
    limits = (("times", COST, "x one call of each side"), ("memory", MEMORY, "x the models and activations"))
    found = [
        f"the probe took {row[name]:.2f} {unit}, the limit is {limit}"
        for name, limit, unit in limits
        if row[name] > limit
    ]
    if row["plan_seconds"] > SECONDS:
        found.append(f"a checked plan took {row['plan_seconds']:.1f} s, the limit is {SECONDS} s")
    return found


def main() -> None:
    """Print the row; write it with --json; with --check a missed limit gives exit status 1."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="write the row here")
    parser.add_argument("--check", action="store_true", help="exit with 1 if a limit is missed")
    parser.add_argument("--batch", type=int, default=BATCH, help=f"how many images are given, {BATCH} by default")
    options = parser.parse_args()
    row = measure(options.batch)
    sys.stdout.write("".join(f"{name:<18} {value:>14,.4g}\n" for name, value in row.items()))
    if options.json:
        options.json.write_text(json.dumps(row, indent=1))
    missed = failures(row)
    sys.stdout.write("".join(f"missed: {line}\n" for line in missed))
    sys.exit(1 if missed and options.check else 0)


if __name__ == "__main__":
    main()
