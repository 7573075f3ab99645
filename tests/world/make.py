"""Save small models with the Keras 2 that runs this script, each beside its golden outputs.

`python make.py FOLDER [NAME ...]` writes the networks of `networks.py` and `operations.py` into the folder, which is
named after what writes it: `keras-2.3.1`, `tensorflow-2.15.1`. Every network gets one `.npz` with its inputs and with
what Keras returned for them (`input_0`, `output_0`, ...).
"""

import sys
import tempfile
from pathlib import Path
from typing import Any

import functions  # noqa: F401 - registers its networks
import masks  # noqa: F401 - the same
import numpy as np
import operations  # noqa: F401 - the same
import otherwise  # noqa: F401 - the same
import recurrent  # noqa: F401 - the same
import sizes  # noqa: F401 - the same
from keras_of_its_time import STANDALONE, keras, tf
from networks import NETWORKS, PADDING, REFERENCES, SHAPES, WORDS

FOLDER = Path(sys.argv[1])
NATIVE = hasattr(keras.Model, "export")
"""True if `.keras` is a zip archive, as in Keras 2.13 and later; before that it is HDF5."""


def fill(model: Any, random: Any) -> None:
    """Set every weight to random, non-degenerate values: no zeros, no ones, no negative variances."""
    for variable in model.weights:
        kind = variable.name.rpartition("/")[2]
        if kind.startswith(("count", "mean", "variance", "StateVar")) or "normalization/" in variable.name[:14]:
            continue
        array = keras.backend.get_value(variable)
        low, high = (0.5, 1.5) if "variance" in kind or "gamma" in kind else (-0.7, 0.7)
        keras.backend.set_value(variable, np.asarray(random.uniform(low, high, array.shape), array.dtype))


def inputs_of(name: str, model: Any, random: Any) -> Any:
    """Return a random batch of two for every input: words for integers, numbers beyond -2.5 and 2.5 for floats."""
    if name in WORDS:
        return [random.randint(0, 9, (2, *WORDS[name])).astype("float32")]
    if name in SHAPES:
        return [2 * random.randn(2, *SHAPES[name]).astype("float32")]
    arrays = []
    for tensor in model.inputs:
        shape = [2, *(int(size) for size in list(tensor.shape)[1:])]
        dtype = str(getattr(tensor.dtype, "name", tensor.dtype))
        if dtype.startswith("int"):
            array = random.randint(1, 9, shape).astype(dtype)
            array[len(arrays) % 2, shape[-1] // 2 :] = 0  # padding, where the model masks it; elsewhere in each input
            arrays.append(array)
        else:
            arrays.append(2 * random.randn(*shape).astype("float32"))
            if name in PADDING:
                arrays[-1][0, shape[1] // 2 :] = PADDING[name]
    return arrays


def outputs_of(model: Any, inputs: Any) -> Any:
    """Return the outputs of the model as a flat list, in the order in which Keras 2 flattens them."""
    if STANDALONE:
        found = model.predict(inputs if len(inputs) > 1 else inputs[0])
        return {f"output_{place}": one for place, one in enumerate(found if isinstance(found, list) else [found])}
    keys = getattr(model, "input_names", None)
    nested = getattr(model, "_nested_inputs", None)
    given: Any = inputs if len(inputs) > 1 else inputs[0]
    if isinstance(nested, dict):
        given = {key: inputs[place] for place, key in enumerate(keys)}
    found = model.predict(given, verbose=0)
    return {f"output_{place}": np.asarray(one) for place, one in enumerate(tf.nest.flatten(found))}


def save(model: Any, path: Path) -> None:
    """Save a model in the format of the suffix."""
    if path.name.endswith(".weights.h5"):
        stem = path.name[: -len(".weights.h5")]
        model.save_weights(str(path.with_name(stem + "_weights.h5")))
        path.with_name(stem + "_weights.json").write_text(model.to_json())
    elif path.suffix == ".keras" and not NATIVE:
        model.save(str(path), save_format="h5")
    else:
        model.save(str(path))


def main() -> None:
    """Save every network, or the named ones."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, network in NETWORKS.items():
        if sys.argv[2:] and name not in sys.argv[2:]:
            continue
        random = np.random.RandomState(len(name))
        keras.backend.clear_session()
        model = network.make()
        if name in REFERENCES:
            judged = REFERENCES[name]()
            fill(judged, random)
            _copy_weights(judged, model)
        else:
            judged = model
            fill(model, random)
        inputs = inputs_of(name, judged, random)
        arrays: Any = {f"input_{place}": array for place, array in enumerate(inputs)}
        np.savez_compressed(str(FOLDER / name) + ".npz", **arrays, **outputs_of(judged, inputs))
        forms = network.forms if not STANDALONE else [form for form in network.forms if form != ".keras"]
        for form in forms:
            save(model, FOLDER / (name + form))


def _copy_weights(source: Any, target: Any) -> None:
    """Load the weights of one model into another, as Keras converts them between its kinds of layers."""
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "weights.h5")
        source.save_weights(path)
        target.load_weights(path)


if __name__ == "__main__":
    main()
