"""Say if a Keras file has an architecture; if not, guess its layers from the names and shapes of the weights."""

from collections.abc import Mapping
from shlex import quote
from typing import Any

from keras3conv.model.listing import varied
from keras3conv.model.views import LayerView, ModelView

_IN_ORDER = ("Keras HDF5 weights", "TensorFlow checkpoint")
_WEIGHTS_ALONE = ("Keras 3 weights", *_IN_ORDER)
_GATES = {4: "LSTM", 3: "GRU", 1: "SimpleRNN"}


def is_weights_alone(view: ModelView) -> bool:
    """Return True if a view is that of a Keras file with weights but without an architecture."""
    return view.facts.get("format") in _WEIGHTS_ALONE and not any(layer.config for layer in varied(view.layers))


def likely(layer: LayerView) -> str:
    """Return the class of a layer; a class that is guessed from its variables has a mark: "keras.layers.Dense ?".

    Return an empty text if the file does not name the class, and the variables suggest none.
    """
    if layer.kind:
        return layer.kind
    shapes = {tensor.role: tensor.shape for tensor in layer.tensors}
    rank = len(shapes.get("kernel", ())) - 2
    if "moving_mean" in shapes:
        return "keras.layers.BatchNormalization ?"
    if "gamma" in shapes or "beta" in shapes:
        return "keras.layers.LayerNormalization ?"
    if "embeddings" in shapes:
        return "keras.layers.Embedding ?"
    if "recurrent_kernel" in shapes:
        gates = shapes["recurrent_kernel"][-1] // shapes["recurrent_kernel"][0]
        return f"keras.layers.{_GATES.get(gates, 'RNN')} ?"
    if "pointwise_kernel" in shapes or "depthwise_kernel" in shapes:
        return f"keras.layers.{'Separable' if 'pointwise_kernel' in shapes else 'Depthwise'}Conv ?"
    return {0: "keras.layers.Dense ?", 1: "keras.layers.Conv1D ?", 2: "keras.layers.Conv2D ?"}.get(rank, "")


def guessed_parameters(layer: LayerView) -> str:
    """Return hyper-parameters that follow from a layer's tensor shapes, as text, such as "64 -> 10, activation ?".

    Args:
        layer: A layer of a file without an architecture.
    """
    shapes: Mapping[str, Any] = {tensor.role: tensor.shape for tensor in layer.tensors}
    kind = likely(layer).rpartition(".")[2].removesuffix(" ?")
    kernel = shapes.get("kernel", shapes.get("depthwise_kernel", ()))
    if "Conv" in kind and "LSTM" not in kind and len(kernel) > 2:
        return _convolution(kind, kernel, shapes)
    if kind == "Dense" and len(kernel) == 2:
        return f"{kernel[0]} -> {kernel[1]}, activation ?"
    if kind == "Embedding" and "embeddings" in shapes:
        words, width = shapes["embeddings"]
        return f"{words} words of {width} numbers"
    if kind.endswith("Normalization") and layer.tensors:
        return f"{layer.tensors[0].shape[-1] if layer.tensors[0].shape else 1} features, epsilon ?"
    if len(shapes.get("recurrent_kernel", ())) == 2:
        return f"{kernel[0]} -> {shapes['recurrent_kernel'][0]} units, activations ?"
    return ""


def _convolution(kind: str, kernel: tuple[int, ...], shapes: Mapping[str, Any]) -> str:
    window, (first, second) = " x ".join(map(str, kernel[:-2])), kernel[-2:]
    if "Transpose" in kind:
        channels = f"{second} -> {first} channels"
    elif kind.startswith("Depthwise"):
        channels = f"{first} -> {first * second} channels"
    elif "pointwise_kernel" in shapes:
        channels = f"{first} -> {shapes['pointwise_kernel'][-1]} channels"
    else:
        channels = f"{first} -> {second} channels"
    return f"{channels}, window {window}, strides ?, padding ?, activation ?"


_HELD_IN = {"Keras HDF5 model": "model_config", "Keras archive": "config.json"}
"""For each format of a Keras model, the part of the file that has the architecture."""


def own_architecture(view: ModelView) -> str:
    """Return the text after the listing of a Keras file with an architecture: the command that converts it; else ""."""
    place = _HELD_IN.get(view.facts.get("format", ""))
    kinds = [layer.kind for layer in varied(view.layers) if layer.config]
    if place is None or not kinds:
        return ""
    is_own = any(kind and not kind.startswith("keras.") for kind in kinds)
    code, option = ("no code but that of its own classes", " --import FILE.py") if is_own else ("no code", "")
    return f"""\
The file contains the architecture, too ({place}), so it is converted with {code}:
keras3conv convert {quote(view.origin)} -o folder/{option}"""


def missing_information(view: ModelView) -> str:
    """Return the text after a listing: what the file lacks, and the commands that accept the file."""
    in_order = view.facts["format"] in _IN_ORDER and all(layer.is_ordered for layer in view.layers)
    by_name = "in the order of the file" if view.facts["format"] in _IN_ORDER else "in alphabetical order"
    order = "in the order of the model" if in_order else by_name
    return f"""\
The file contains weights, but no architecture. The layers are listed {order}; their classes are guessed \
from names and shapes. The file does not contain the strides, the padding, the activations and the epsilons, the \
layers without weights (pooling, flattening, dropout), and the connections between the layers.

With a torch module:      keras3conv transfer {view.origin} net.py:make -o net.safetensors
With the code in Keras:   keras3conv convert keras_net.py:make --keras-weights {view.origin} -o folder/
With the architecture:    keras3conv convert model.json --keras-weights {view.origin} -o folder/"""
