"""Convert the weights of CuDNNLSTM and CuDNNGRU of Keras 2 to the weights of an LSTM and a GRU.

cuDNN stores the matrix of each gate transposed, in the memory layout of the input kernel, and has two biases for each
gate. The gates have the same order as in Keras.
"""

from collections.abc import Sequence

import numpy as np

from keras3conv.transforms import Array, Shape


def is_of_cudnn(weights: Sequence[Array], shapes: Sequence[Shape]) -> bool:
    """Return whether three weights are those of a cuDNN layer.

    The bias shows it. A cuDNN layer has one vector with two biases for each gate. A Keras LSTM has a vector of half the
    length, and a Keras GRU has a matrix of two rows.

    Args:
        weights: The kernel, the recurrent kernel and the bias in the file.
        shapes: Their shapes in an LSTM or a GRU of Keras 3.
    """
    if len(weights) != 3 or [array.shape for array in weights[:2]] != [tuple(shape) for shape in shapes[:2]]:
        return False
    found, wanted = weights[2].shape, tuple(shapes[2])
    return len(found) == 1 and found != wanted and found[0] == (2 * wanted[0] if len(wanted) == 1 else np.prod(wanted))


def from_cudnn(weights: Sequence[Array], bias: Shape) -> tuple[Array, Array, Array]:
    """Convert the weights of a cuDNN layer; return kernel, recurrent kernel and bias of an LSTM or a GRU.

    Args:
        weights: The kernel, the recurrent kernel and the bias in the file.
        bias: The shape of the bias in Keras 3.
    """
    kernel, recurrent, biases = weights
    gates = kernel.shape[1] // recurrent.shape[0]
    kernels = [gate.T.reshape(gate.shape, order="F") for gate in np.hsplit(kernel, gates)]
    recurrents = [gate.T for gate in np.hsplit(recurrent, gates)]
    joined = biases.reshape(bias) if len(bias) == 2 else biases.reshape(2, -1).sum(axis=0)
    return np.hstack(kernels), np.hstack(recurrents), joined
