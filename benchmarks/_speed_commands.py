"""Measure commands as one types them, each in a new process, beside a script that does the same by hand."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks._paired import Ratio, Work, clock_of_children, ratio, rounds_of

_MODELS = """from benchmarks.bench_validate import ResNet50, keras_twin
"""

_SCRIPT = """import json
import sys

import keras
import torch
from safetensors.torch import load_file

from benchmarks.bench_validate import keras_twin

source, order, out = sys.argv[1:]
arrays, model = load_file(source), keras_twin()
axes = {4: (2, 3, 1, 0), 2: (1, 0)}
with open(order) as file, torch.no_grad():
    for name, place in json.load(file):
        value = arrays[name]
        model.weights[place].assign(value.permute(axes.get(value.ndim, tuple(range(value.ndim)))))
model.save_weights(out)
"""
"""It knows the place of every tensor, as a script that was written for this model does."""

ROUNDS = 3
"""The number of rounds: all commands of a round take a minute together."""


def commands(rounds: int) -> Iterator[Ratio]:
    """Compare `keras3conv transfer` with a plan, without and with `validate`, with a script for the same ResNet-50."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source, out, plan = folder / "net.safetensors", folder / "net.weights.h5", folder / "plan.json"
        _write_files(folder, source, plan)
        script = _python(folder / "by_hand.py", source, folder / "order.json", folder / "by_hand.weights.h5")
        ours = ("-m", "keras3conv")
        transfer = _python(*ours, "transfer", source, out, "--plan", plan, "--overwrite", "-q")
        models = (f"{folder / 'models.py'}:ResNet50", f"{folder / 'models.py'}:keras_twin")
        weights = ("--torch-weights", source, "--keras-weights", out)
        inputs = ("--inputs", folder / "inputs.npz")
        validate = _python(*ours, "validate", *models, *weights, *inputs, "--plan", plan, "-q")

        def certified() -> None:
            transfer()
            validate()

        group = "checkpoint to Keras weights, ResNet-50, as commands"
        alone, by_hand, both = "keras3conv transfer", "python by_hand.py", "keras3conv transfer, validate"
        times = rounds_of({alone: transfer, by_hand: script}, min(rounds, 2 * ROUNDS), clock_of_children)
        yield ratio(group, times, alone, by_hand, 0.5)
        times = rounds_of({both: certified, by_hand: script}, min(rounds, ROUNDS), clock_of_children)
        yield ratio(group, times, both, by_hand, 3.0)


def _python(*arguments: object) -> Work:
    """Return a function that runs Python in a new process, which finds this package.

    The process keeps compiled modules, as an installation does, even if the environment forbids it.
    """
    path = os.fspath(Path(__file__).parents[1])
    environment = {**os.environ, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": ""}
    command = [sys.executable, *map(str, arguments)]
    return lambda: subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=environment)


def _write_files(folder: Path, source: Path, plan_path: Path) -> None:
    """Write the checkpoint, the plan, the inputs, the file with both models, and the script with its order.

    Args:
        folder: The folder.
        source: The checkpoint to write.
        plan_path: The plan to write.
    """
    import numpy as np
    import torch
    from safetensors.torch import save_file

    import keras3conv as k3c
    from benchmarks.bench_validate import ResNet50, keras_twin
    from keras3conv.frameworks.keras.tree import variables_by_path

    module, model, images = ResNet50().eval(), keras_twin(), torch.randn(2, 3, 224, 224)
    save_file(module.state_dict(), source)
    np.savez(folder / "inputs.npz", images.numpy())
    plan = k3c.align(module, model, inputs=images).check()
    plan_path.write_text(plan.to_json(), encoding="utf-8")
    places = {id(variable): place for place, variable in enumerate(model.weights)}
    variables = variables_by_path(model)
    order = [(mapping.torch[0], places[id(variables[mapping.keras[0]])]) for mapping in plan.mappings]
    (folder / "order.json").write_text(json.dumps(order), encoding="utf-8")
    (folder / "models.py").write_text(_MODELS, encoding="utf-8")
    (folder / "by_hand.py").write_text(_SCRIPT, encoding="utf-8")
