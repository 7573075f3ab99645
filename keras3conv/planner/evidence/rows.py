"""Pair one layer with a sequence of layers on the other side, such as a two-layer torch LSTM with two Keras LSTMs.

A sequence consists of consecutive layers in call order, or in definition order if the model was not run. The rules name
the classes of such layers and sequences. A sequence is paired only if its layers are in no other possible pair.
"""

from collections import Counter
from collections.abc import Iterator, Sequence

from keras3conv.alignment.binding import make_pair
from keras3conv.alignment.pair import Evidence, Pair, misfit
from keras3conv.errors import RuleError
from keras3conv.model.views import LayerView, Side
from keras3conv.planner.evidence.structure import Unmatched
from keras3conv.rules.applying import may_apply
from keras3conv.rules.library import list_rules
from keras3conv.rules.rule import Rule
from keras3conv.rules.units import numbered
from keras3conv.transforms import Shape

_LONGEST = 8
"""The maximum number of layers in a sequence that is paired with one layer, if its rule allows any number."""

_EVIDENCE = (Evidence(kind="shape", detail="no other sequence of layers fits"),)
_BY_ORDER = (Evidence(kind="definition order", detail="layers of equal shapes, in the order of the file"),)


def sequence_pairs(unmatched: Unmatched) -> list[Pair]:
    """Return the pairs of one layer with a sequence of layers on the other side.

    A pair is left out if one of its layers also belongs to another possible pair.
    """
    found: dict[tuple[str, str], Pair] = {}
    for rule in list_rules():
        if (rule.torch_count, rule.keras_count) != (1, 1) and not rule.parallel and not rule.between:
            for pair in _fitting(rule, unmatched):
                found.setdefault((pair.torch, pair.keras), pair)
    uses = Counter(path for pair in found.values() for path in _layers(pair))
    return [pair for pair in found.values() if all(uses[path] == 1 for path in _layers(pair))]


def _layers(pair: Pair) -> Iterator[tuple[str, str]]:
    yield from (("torch", path) for path in pair.torch_layers)
    yield from (("keras", path) for path in pair.keras_layers)


def _fitting(rule: Rule, unmatched: Unmatched) -> Iterator[Pair]:
    keras_sequences = list(_sequences(unmatched.keras_layers, rule.keras, rule.keras_count, "keras"))
    if not keras_sequences:
        return
    for torch in _sequences(unmatched.torch_layers, rule.torch, rule.torch_count, "torch"):
        if not may_apply(rule, torch):
            continue
        for keras in keras_sequences:
            try:
                pair = make_pair(rule, torch, keras, _EVIDENCE if _is_certain(torch, keras) else _BY_ORDER)
            except RuleError:  # the rule excludes these configurations or this number of layers
                continue
            if _is_complete(pair, torch, keras):
                yield pair


def _sequences(layers: Sequence[LayerView], kind: str, number: int, side: Side) -> Iterator[LayerView]:
    """Yield every sequence of `number` consecutive layers of the class `kind`.

    A sequence is yielded as one `LayerView` with the tensors of all its layers.

    Args:
        layers: The layers of one model.
        kind: The qualified class name.
        number: The length of a sequence; 0 for every length from 2 on.
        side: The side of the layers: "torch" or "keras".
    """
    fitting = [layer for layer in layers if kind in layer.kinds or _is_unknown(layer, side)]
    ordered = sorted(fitting, key=lambda layer: layer.run.first_call)
    for length in (number,) if number else range(2, _LONGEST + 1):
        for start in range(len(ordered) - length + 1):
            sequence = ordered[start : start + length]
            yield sequence[0] if length == 1 else numbered(sequence, side)


def _is_certain(*sequences: LayerView) -> bool:
    """Return whether the order of the layers in each sequence is known: they were called, or their shapes differ."""
    for sequence in sequences:
        shapes: dict[str, dict[str, Shape]] = {}
        for tensor in sequence.tensors:
            number, _, role = tensor.role.replace(".", "/").partition("/")
            shapes.setdefault(number if " + " in sequence.path else "", {})[role] = tensor.shape
        if sequence.run.calls is None and any(list(shapes.values()).count(one) > 1 for one in shapes.values()):
            return False
    return True


def _is_unknown(layer: LayerView, side: Side) -> bool:
    """Return whether the class of a layer is unknown, as that of a torch layer from a file, which stores no classes."""
    return side == "torch" and not layer.kinds and layer.config is None


def _is_complete(pair: Pair, torch: LayerView, keras: LayerView) -> bool:
    """Return whether a pair maps every tensor of both layers to a tensor of the other layer of the same shape.

    The shapes are compared after the transforms of the pair.

    Args:
        pair: The pair of a layer with a sequence of layers.
        torch: The torch layer, or the sequence as one layer.
        keras: The Keras layer, or the sequence as one layer.
    """
    torch_tensors = {tensor.path: tensor for tensor in torch.tensors}
    keras_tensors = {tensor.path: tensor for tensor in keras.tensors}
    mapped_torch = {path for mapping in pair.weights for path in mapping.torch}
    mapped_keras = {path for mapping in pair.weights for path in mapping.keras}
    wanted = {path for path, tensor in keras_tensors.items() if not tensor.is_seed}
    if mapped_torch != torch_tensors.keys() or mapped_keras != wanted:
        return False
    return not any(misfit(mapping, torch_tensors, keras_tensors) for mapping in pair.weights)
