"""Choose the loss whose gradients are compared: the factors of a weighted sum of all output elements."""

import numpy as np

from keras3conv.frameworks.shared.inputs import SEED
from keras3conv.frameworks.shared.layout import channels_first
from keras3conv.frameworks.shared.layout import moved as moved_shape
from keras3conv.transforms import Array
from keras3conv.validators.running.output_pairs import output_pairs
from keras3conv.validators.running.subject import Subject


def weights_of_the_loss(subject: Subject) -> tuple[dict[str, Array], dict[str, Array]] | str:
    """Return the weight of each output element in the loss, for torch and Keras.

    If there can be no loss, return the reason instead.
    """
    generator = np.random.default_rng(SEED)
    torch: dict[str, Array] = {}
    keras: dict[str, Array] = {}
    for pair in output_pairs(subject.torch_probe, subject.keras_probe):
        if pair.mismatch:
            return f"the outputs cannot be compared: {pair.mismatch}"
        if pair.keras_output.dtype.kind == "f":
            weight = generator.uniform(0.5, 1.5, pair.keras_output.shape)
            keras[pair.keys[1]] = weight
            shape = subject.torch_probe.outputs[pair.keys[0]].shape
            if pair.layout.startswith("channels moved last"):
                weight = channels_first(weight.reshape(moved_shape(shape)))
            torch[pair.keys[0]] = np.ascontiguousarray(weight.reshape(shape))
    return (torch, keras) if keras else "no output is floating point, so nothing has a gradient"
