"""Pair torch layers with the layers of a Keras file in which variables have unusual names: `weight` for a kernel.

The names are listed in the module `alignment.renamed`.
"""

from collections.abc import Iterator, Sequence

from keras3conv.alignment.binding import pair_of_tensors
from keras3conv.alignment.pair import Evidence, Pair
from keras3conv.alignment.renamed import renamed_mappings
from keras3conv.model.views import LayerView
from keras3conv.planner.evidence import names
from keras3conv.planner.evidence.structure import Unmatched


def renamed_pairs(unmatched: Unmatched) -> Iterator[Pair]:
    """Pair torch and Keras layers whose paths have the same words, if their tensors fit by shape in only one way."""
    keras, torch = _by_words(unmatched.keras_layers), _by_words(unmatched.torch_layers)
    for words, layers in torch.items():
        others = keras.get(words, [])
        if len(layers) == len(others) == 1 and (mappings := renamed_mappings(layers[0], others[0])):
            yield pair_of_tensors(mappings, [Evidence(kind="name", detail=" ".join(words))])


def _by_words(layers: Sequence[LayerView]) -> dict[tuple[str, ...], list[LayerView]]:
    found: dict[tuple[str, ...], list[LayerView]] = {}
    for layer in layers:
        found.setdefault(names.words(names.name_of(layer)), []).append(layer)
    return found
