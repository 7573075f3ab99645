"""Compare the weights of a pair of layers with those that the plan makes of each other."""

from keras3conv.alignment.pair import Pair
from keras3conv.errors import TransformError, message_of
from keras3conv.model.views import Side
from keras3conv.numerics.difference import compare, same_bits
from keras3conv.rules.rule import WeightMapping
from keras3conv.transforms import Array
from keras3conv.validators.running.subject import Subject

TO_KERAS = "k3c.transfer(module, model, plan)"
"""The line that writes the weights of the torch module into the Keras model."""

_TRANSFERS = (
    f"{TO_KERAS}  # the weights of torch, to Keras",
    "k3c.transfer(model, module, plan)  # the weights of Keras, to torch",
)


def transfers(port: Side | None) -> tuple[str, ...]:
    """Return the lines that transfer the weights again, in both directions; the first writes the side `port`.

    Args:
        port: The side whose weights a transfer wrote; None if it is unknown.
    """
    return _TRANSFERS[::-1] if port == "torch" else _TRANSFERS


def is_transferred(subject: Subject, pair: Pair) -> bool:
    """Return whether the weights of two layers are what the plan makes of each other, bit for bit."""
    return not any(weight_difference(mapping, *stored_weights(subject, mapping)) for mapping in pair.weights)


def stored_weights(subject: Subject, mapping: WeightMapping) -> tuple[tuple[Array, ...], tuple[Array, ...]]:
    """Return the values of the torch tensors and of the Keras variables of a mapping."""
    torch = tuple(subject.torch_view.read(path) for path in mapping.torch)
    return torch, tuple(subject.keras_view.read(path) for path in mapping.keras)


def weight_difference(mapping: WeightMapping, torch: tuple[Array, ...], keras: tuple[Array, ...]) -> str:
    """Return in words how the Keras weights of a mapping differ from the transformed torch weights; empty if equal."""
    try:
        return _difference(mapping, torch, keras)
    except TransformError as error:  # the other side has no tensor for this value
        return message_of(error)


def _difference(mapping: WeightMapping, torch: tuple[Array, ...], keras: tuple[Array, ...]) -> str:
    from_torch = mapping.transform(torch)
    for path, expected, actual in zip(mapping.keras, from_torch, keras, strict=True):
        if not _same_bits(expected, actual):
            return f"{path}: {compare(actual, expected).described('torch')}"
    from_keras = mapping.transform.inverse(keras)
    round_trip = mapping.transform(from_keras)
    if not all(_same_bits(expected, actual) for expected, actual in zip(round_trip, keras, strict=True)):
        return (
            f"the values of {', '.join(mapping.keras)} are not bit-identical after a round trip to the other "
            "framework and back"
        )
    if mapping.transform.lossless:
        for path, expected, actual in zip(mapping.torch, from_keras, torch, strict=True):
            if not _same_bits(expected, actual):
                return f"the values of {path} are not bit-identical after a round trip to the other framework and back"
    return ""


def _same_bits(transformed: Array, stored: Array) -> bool:
    return same_bits(transformed.astype(stored.dtype, copy=False), stored)
