"""Compare the time of a converted Keras model with the torch module and with a model of keras.applications.

    python -m benchmarks bench_to_keras_speed ResNet50 MobileNetV2

Keras runs on torch. The time is that of the processor for one batch on two threads: the least of several rounds, in
turns. --compile adds the module compiled by torch.
"""

import argparse
import os
import time
import warnings
from collections.abc import Callable
from typing import Any

PAIRS = {
    "ResNet50": "resnet50",
    "MobileNetV2": "mobilenet_v2",
    "DenseNet121": "densenet121",
    "ConvNeXtTiny": "convnext_tiny",
    "EfficientNetB0": "efficientnet_b0",
}
"""The names in keras.applications and in torchvision."""

SIZE, IMAGES, ROUNDS = 96, 4, 5

LIMIT = 1.1
"""The largest time of a converted model, relative to the handwritten one."""


def measured(keras_name: str, *, compiled: bool) -> dict[str, float]:
    """Return the seconds per batch, by the name of the model."""
    import keras
    import torch

    import keras3conv as k3c
    from benchmarks._torchvision import torchvision_models

    torch.set_num_threads(2)
    module = getattr(torchvision_models(), PAIRS[keras_name])(weights=None).eval()
    given = torch.randn(IMAGES, 3, SIZE, SIZE)
    image = given.permute(0, 2, 3, 1).contiguous()
    made = k3c.convert(module, inputs=given, validate=False).model
    by_hand = getattr(keras.applications, keras_name)(weights=None, input_shape=(SIZE, SIZE, 3))
    runs: dict[str, Callable[[], Any]] = {
        "torch": lambda: module(given),
        "converted": lambda: made(image, training=False),
        "by hand": lambda: by_hand(image, training=False),
    }
    if compiled:
        compile_module: Any = torch.compile
        fast = compile_module(module)
        runs["torch compiled"] = lambda: fast(given)
    best = dict.fromkeys(runs, float("inf"))
    with torch.no_grad():
        for _ in range(ROUNDS):
            for name, run in runs.items():
                start = time.process_time()
                run()
                best[name] = min(best[name], time.process_time() - start)
    return best


def main() -> int:
    """Print a line for each model; with --check the exit status is 1 if a converted model is too slow."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("models", nargs="*", default=[*PAIRS], help="Names in keras.applications.")
    parser.add_argument("--compile", action="store_true", help="torch.compile too.")
    parser.add_argument("--check", action="store_true", help="Exit with 1 if a converted model is too slow.")
    arguments = parser.parse_args()
    os.environ.setdefault("KERAS_BACKEND", "torch")
    warnings.simplefilter("ignore")
    slow = 0
    for name in arguments.models:
        found = measured(name, compiled=arguments.compile)
        ratio = found["converted"] / found["by hand"]
        slow += ratio > LIMIT
        shown = ", ".join(f"{kind} {seconds * 1000:.0f} ms" for kind, seconds in found.items())
        print(f"{name:<16} {ratio:.2f} x the hand-written one: {shown}", flush=True)
    return int(arguments.check and slow > 0)


if __name__ == "__main__":
    raise SystemExit(main())
