"""Measure the groups of `speed` for conversions, plans, `validate`, and the transfer of a checkpoint to a file."""

import tempfile
from collections.abc import Iterator
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from benchmarks._paired import PACE, Ratio, Work, in_seconds, not_measured, pace, ratio, rounds_of

LAYERS = 1_000
"""The layers of the model that is planned."""

PEER, THROUGH = "onnx2torch", "ONNX and onnx2torch"

FEW = 3
"""The number of rounds for a task that takes half a minute."""


def to_torch(rounds: int) -> Iterator[Ratio]:
    """Compare one call of a module converted from Keras with other ways to run the same network.

    The other ways are: torchvision's module, edited by hand to be equivalent; the module that onnx2torch makes of
    Keras' own ONNX export; ONNX Runtime; and the converted module in channels_last memory, and compiled.
    """
    import keras
    import torch

    import keras3conv as k3c
    from benchmarks._conversion_speed import as_in_keras
    from benchmarks._speed_groups import onnx_session
    from benchmarks._torchvision import torchvision_models

    model = keras.applications.ResNet50(weights=None)
    ours = k3c.convert(model, validate=False).model.eval()
    theirs = as_in_keras("ResNet50", torchvision_models().resnet50()).eval()
    given = torch.randn(1, 3, 224, 224)
    last = k3c.convert(model, validate=False).model.eval().to(memory_format=torch.channels_last)
    image = given.to(memory_format=torch.channels_last)
    session, inputs = onnx_session(ours, given)
    compile_module: Any = torch.compile
    compiled = compile_module(ours)
    works: dict[str, Work] = {
        "converted": lambda: ours(given),
        "written by hand": lambda: theirs(given),
        "converted, channels_last": lambda: last(image),
        "converted, torch.compile": lambda: compiled(given),
        "ONNX Runtime": lambda: session.run(None, inputs),
    }
    has_peer = find_spec(PEER) is not None
    if has_peer:
        from benchmarks._alternatives import module_through_onnx

        through, rows_last = module_through_onnx(model)[0], given.permute(0, 2, 3, 1).contiguous()
        works[THROUGH] = lambda: through(rows_last)
    with torch.no_grad():
        times = rounds_of(works, rounds)
    group = "Keras to torch, ResNet-50, 1 image"
    yield ratio(group, times, "converted", "written by hand", 1.05)
    yield (
        ratio(group, times, "converted", THROUGH, 1.0) if has_peer else not_measured(group, "converted", THROUGH, PEER)
    )
    for other in ("converted, channels_last", "converted, torch.compile", "ONNX Runtime"):
        yield ratio(group, times, other, "converted")


def to_keras(rounds: int) -> Iterator[Ratio]:
    """Compare a Keras model converted from torch with the handwritten model of keras.applications on each backend.

    ONNX is not compared, because no package makes a Keras 3 model of an ONNX file.
    """
    from benchmarks.bench_to_keras_speed import measured, on_backend

    group = "torch to Keras, ResNet-50, 4 images"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for found in measured("ResNet50", rounds, compiled=False, folder=folder):
            yield replace(found, group=f"{group}, torch")
        for backend in ("jax", "tensorflow"):
            yield replace(on_backend(backend, "ResNet50", rounds, folder), group=f"{group}, {backend} compiled")


def plannings(rounds: int) -> Iterator[Ratio]:
    """Compare the plan of a thousand layers, by names and shapes, with writing their datasets to an HDF5 file."""
    import h5py
    import numpy as np

    from benchmarks.bench_align import keras_layer, torch_layer
    from keras3conv.model.views import ModelView
    from keras3conv.planner.plan import plan

    torch_view = ModelView(side="torch", name="Synthetic", layers=tuple(map(torch_layer, range(LAYERS))))
    keras_view = ModelView(side="keras", name="synthetic", layers=tuple(map(keras_layer, range(LAYERS))))
    tensors = list(keras_view.tensors())

    with tempfile.TemporaryDirectory() as folder:

        def datasets() -> None:
            with h5py.File(Path(folder) / "empty.h5", "w") as file:
                for tensor in tensors:
                    file.create_dataset(tensor.path, data=np.zeros(4, np.float32))

        works: dict[str, Work] = {"plan": lambda: plan(torch_view, keras_view).check(), "datasets of h5py": datasets}
        times = rounds_of(works, rounds)
    yield ratio(f"planning, {LAYERS:,} layers", times, "plan", "datasets of h5py", 1.0)


def small_certificates(rounds: int) -> Iterator[Ratio]:
    """Measure `convert` and `validate` for three convolutions, relative to one second of processor time."""
    import keras

    import keras3conv as k3c

    layers = [keras.layers.Conv2D(8, 3, activation="relu") for _ in range(3)]
    model = keras.Sequential([keras.Input((32, 32, 3)), *layers, keras.layers.Flatten(), keras.layers.Dense(10)])
    converted = k3c.convert(model, validate=False)
    works: dict[str, Work] = {
        "convert": lambda: k3c.convert(model, validate=False),
        "certificate": lambda: k3c.validate(converted.model, model, inputs=converted.inputs, plan=converted.plan),
        PACE: pace,
    }
    times = rounds_of(works, rounds)
    yield in_seconds("three convolutions", times, "convert", "one second", 1.0, 0.7)
    yield in_seconds("three convolutions", times, "certificate", "one second", 1.0, 1.0)


def large_certificate(rounds: int) -> Iterator[Ratio]:
    """Measure `validate` for a ResNet-50 in torch and in Keras, relative to 15 seconds of two processors."""
    import torch

    import keras3conv as k3c
    from benchmarks.bench_validate import ResNet50, keras_twin

    module, model, images = ResNet50().eval(), keras_twin(), torch.randn(2, 3, 224, 224)
    plan = k3c.align(module, model, probe=False).check()
    k3c.transfer(module, model, plan)
    works: dict[str, Work] = {
        "certificate": lambda: k3c.validate(module, model, inputs=images, plan=plan).raise_if_failed(),
        PACE: pace,
    }
    times = rounds_of(works, min(rounds, FEW))
    yield in_seconds("ResNet-50, 2 images", times, "certificate", "2 x 15 seconds", 30.0, 1.0)


def checkpoints(rounds: int) -> Iterator[Ratio]:
    """Compare the conversion of a ResNet-50 checkpoint to a Keras weight file with a handwritten script.

    The script, too, knows which tensor goes where: it builds the Keras model, assigns, and saves with Keras.
    """
    import keras
    import torch
    from safetensors.numpy import load_file
    from safetensors.torch import save_file

    import keras3conv as k3c
    from benchmarks._speed_groups import moved
    from benchmarks.bench_validate import ResNet50, keras_twin
    from keras3conv.frameworks.keras.tree import variables_by_path

    module, model, images = ResNet50().eval(), keras_twin(), torch.randn(2, 3, 224, 224)
    plan = k3c.align(module, model, probe=False).check()
    order = [(mapping.torch[0], mapping.keras[0]) for mapping in plan.mappings]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source, ours, theirs = (folder / file for file in ("net.safetensors", "net.weights.h5", "by_hand.weights.h5"))
        save_file(module.state_dict(), source)

        def script() -> None:
            filled = keras_twin()
            arrays, variables = moved(load_file(source)), variables_by_path(filled)
            for (torch_path, _), variable in zip(order, _in_order(variables, model, order), strict=True):
                variable.assign(arrays[torch_path])
            filled.save_weights(theirs)

        def transfer() -> None:
            k3c.transfer(source, ours, plan, overwrite=True).raise_if_failed()

        def certified() -> None:
            transfer()
            keras.utils.clear_session()  # names of layers count from the start again, as in the plan
            made, filled = ResNet50().eval(), keras_twin()
            made.load_state_dict({path: torch.from_numpy(array) for path, array in load_file(source).items()})
            filled.load_weights(ours)
            k3c.validate(made, filled, inputs=images, plan=plan).raise_if_failed()

        works: dict[str, Work] = {"transfer": transfer, "script, save_weights": script}
        times = rounds_of(works, rounds)
        group = "checkpoint to Keras weights, ResNet-50"
        yield ratio(group, times, "transfer", "script, save_weights", 0.5)
        works = {"transfer and certificate": certified, "script, save_weights": script}
        times = rounds_of(works, min(rounds, FEW))
        yield ratio(group, times, "transfer and certificate", "script, save_weights", 3.0)


def _in_order(variables: dict[str, Any], model: Any, order: list[tuple[str, str]]) -> list[Any]:
    """Return the variables of a copy of a model, whose layer names have different numbers, in the order of a plan.

    Args:
        variables: The variables of the copy, by path.
        model: The model for which the plan was made.
        order: The torch path and the Keras path of each mapping of the plan.
    """
    from keras3conv.frameworks.keras.tree import variables_by_path

    twins = dict(zip(variables_by_path(model), variables.values(), strict=True))
    return [twins[path] for _, path in order]
