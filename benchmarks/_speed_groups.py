"""Define the groups of `speed`: each runs in a separate process and yields its ratios."""

import io
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from typing import Any

from benchmarks._memory import Growth
from benchmarks._paired import PACE, Ratio, Seconds, Work, clock_of_children, in_seconds, ratio, rounds_of

AFTER = "Keras on torch, after transfer"
FILLED = "Keras on torch, set_weights"

COPIES = 5
"""The number of copies of a model in the measurement of inference."""

ALLOWANCE = 64 << 20
"""The bytes that a transfer may use in addition to the largest pair of tensors."""


def inference(name: str, rounds: int, *, full: bool) -> Iterator[Ratio]:
    """Compare one call of a converted Keras model on the torch backend with the same model filled by `set_weights`.

    Two equal models differ by a few percent, depending on where their tensors are in memory. So several copies of both
    models are measured, and a ratio is the median over the rounds of all copies.
    """
    import torch

    from benchmarks._speed_models import CONVOLUTIONAL, NETWORKS, in_keras_layout

    make, example = NETWORKS[name]
    module, given = make().eval(), example()
    tensor = torch.from_numpy(in_keras_layout(given))
    others: dict[str, Work] = {"torch": lambda: module(given)}
    if full:
        session, inputs = onnx_session(module, given)
        compiled = torch.compile(module)
        others |= {"ONNX Runtime": lambda: session.run(None, inputs), "torch.compile": lambda: compiled(given)}
    times: dict[str, list[Seconds]] = {}
    for copy in _filled_in_both_ways(module, given):
        works = {way: partial(model, tensor, training=False) for way, model in copy.items()}
        with torch.no_grad():
            for work, found in rounds_of(works | others, max(2, rounds // COPIES)).items():
                times.setdefault(work, []).extend(found)
    group = f"inference, {name}"
    yield ratio(group, times, AFTER, FILLED, 0.65 if name in CONVOLUTIONAL else 1.02)
    for other in others:
        yield ratio(group, times, AFTER, other)


def _filled_in_both_ways(module: Any, models: Any) -> list[dict[str, Any]]:
    """Return copies of a Keras model, each once as converted and once filled by `set_weights`.

    All of them stay in memory, so that they are in different places; every second time the filled model is made first.
    """
    import keras

    import keras3conv as k3c

    def converted() -> Any:
        return k3c.convert(module, inputs=models, validate=False).model

    def filled() -> Any:
        model = keras.models.clone_model(template)
        model.set_weights(template.get_weights())
        return model

    template = converted()
    ways = [(AFTER, converted), (FILLED, filled)]
    return [{way: make() for way, make in ways[:: 1 if number % 2 else -1]} for number in range(COPIES)]


def onnx_session(module: Any, inputs: Any) -> tuple[Any, dict[str, Any]]:
    """Return a single-threaded session of ONNX Runtime for an exported module, and its inputs."""
    import onnxruntime
    import torch

    file: Any = io.BytesIO()
    torch.onnx.export(module, (inputs,), file, dynamo=False)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(file.getvalue(), options, providers=["CPUExecutionProvider"])
    return session, {session.get_inputs()[0].name: inputs.numpy()}


def transfers(rounds: int) -> Iterator[Ratio]:
    """Compare a live transfer on the current backend with handwritten loops.

    The loops fill a separate model to which no transfer has written: a transfer changes the memory order of kernels.
    """
    import keras

    import keras3conv as k3c
    from benchmarks.bench_validate import ResNet50, keras_twin
    from keras3conv.frameworks.keras.tree import variables_by_path

    module, model, other = ResNet50().eval(), keras_twin(), keras_twin()
    plan = k3c.align(module, model, probe=False).check()
    named = zip(variables_by_path(model), variables_by_path(other).values(), strict=True)
    variables = dict(named)
    arrays = _moved(module)
    pairs = [(mapping.torch[0], variables[mapping.keras[0]]) for mapping in plan.mappings]

    def loop() -> None:
        for source, variable in pairs:
            variable.assign(arrays[source])

    works: dict[str, Work] = {"transfer": lambda: k3c.transfer(module, model, plan), "loop of assign": loop}
    group = f"transfer, ResNet-50, Keras on {keras.backend.backend()}"
    with Growth() as growth:  # the first transfer, because later ones reuse the memory that it frees
        works["transfer"]()
    yield ratio(group, rounds_of(works, rounds), "transfer", "loop of assign", 1.3)
    beside = growth.bytes / (2 * max(array.nbytes for array in arrays.values()) + ALLOWANCE)
    yield Ratio(
        group=group,
        name="memory beside the models",
        reference="the largest pair and 64 MiB",
        processor=beside,
        wall=beside,
        spread=0.0,
        milliseconds=0.0,
        target=1.0,
    )
    if keras.backend.backend() == "torch":
        yield _sharing(rounds)


def _sharing(rounds: int) -> Ratio:
    """Compare a transfer that shares the memory of a hundred 1024 x 1024 matrices with a loop that copies them."""
    import keras
    import numpy as np
    import torch

    import keras3conv as k3c

    module = torch.nn.Sequential(*(torch.nn.Linear(1024, 1024) for _ in range(100)))
    model = keras.Sequential([keras.Input((1024,)), *(keras.layers.Dense(1024) for _ in range(100))])
    plan = k3c.align(module, model, probe=False).check()
    arrays = _moved(module)
    copies = [(array, np.empty(array.shape, array.dtype)) for array in arrays.values()]

    def copy() -> None:
        for array, target in copies:
            np.copyto(target, array)

    works: dict[str, Work] = {
        'memory="share"': lambda: k3c.transfer(module, model, plan, memory="share"),
        "loop of np.copyto": copy,
    }
    times = rounds_of(works, rounds)
    return ratio("transfer, 100 matrices, Keras on torch", times, 'memory="share"', "loop of np.copyto", 0.05)


def _moved(module: Any) -> dict[str, Any]:
    """Return views of the tensors of a module, with their axes in Keras' order."""
    return moved({name: tensor.detach().numpy() for name, tensor in module.state_dict(keep_vars=True).items()})


def moved(state: dict[str, Any]) -> dict[str, Any]:
    """Return views of arrays, with their axes in Keras' order."""
    import numpy as np

    orders = {4: (2, 3, 1, 0), 2: (1, 0)}
    return {name: np.transpose(array, orders.get(array.ndim, range(array.ndim))) for name, array in state.items()}


def probes(rounds: int) -> Iterator[Ratio]:
    """Compare the probe (the runs by which `align` pairs layers) of a ResNet-50 with one float32 call of each model."""
    import numpy as np
    import torch

    from benchmarks.bench_probe import SIZE, keras_twin, torch_twin
    from keras3conv.frameworks.sides import both_inputs, view
    from keras3conv.planner.probe import run as probing

    module, model = torch_twin(), keras_twin()
    image = np.random.default_rng(0).standard_normal((1, 3, SIZE, SIZE)).astype("float32")
    views = view(module), view(model)
    given = both_inputs(*views, image, None)
    tensor = torch.from_numpy(image)

    def calls() -> None:
        with torch.no_grad():
            module(tensor)
            model(given.keras, training=False)

    works: dict[str, Work] = {
        "probe": lambda: probing.probe(module, model, views, given, {}),
        "one call of each side": calls,
    }
    yield ratio("probe, ResNet-50, 1 image", rounds_of(works, rounds), "probe", "one call of each side", 3.0)


def starts(rounds: int) -> Iterator[Ratio]:
    """Compare the import of the package with that of numpy, and time `--help`, each in a new process."""

    def python(*arguments: str) -> Work:
        return lambda: subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)

    works = {
        "import keras3conv": python("-c", "import keras3conv"),
        "import numpy": python("-c", "import numpy"),
        "keras3conv --help": python("-m", "keras3conv", "--help"),
    }
    times = rounds_of(works, rounds, clock_of_children)
    times[PACE] = times["import numpy"]
    yield ratio("start", times, "import keras3conv", "import numpy", 1.3)
    yield in_seconds("start", times, "keras3conv --help", "0.3 seconds", 0.3, 1.0)
