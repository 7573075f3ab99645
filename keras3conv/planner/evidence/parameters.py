"""Pair a torch parameter with the Keras layer of the same name that has one variable and nothing else.

A torch module may own a parameter and compute with it: a class token, a scale, the magnitude of a weight norm. A Keras
model has a layer for such a parameter, for example an `EinsumDense` that is called with ones. If the layer is named
after the parameter ("encoder_cls_token" for "encoder.cls_token"), the names decide, whatever the class of the module.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import takewhile
from math import prod
from typing import TypeVar

from keras3conv.alignment.binding import pair_of_tensors
from keras3conv.alignment.pair import Evidence, Pair
from keras3conv.alignment.shapes import same_axes
from keras3conv.model.views import LayerView, ModelView, TensorRef
from keras3conv.planner.evidence import names
from keras3conv.planner.probe.layouts import transforms_between
from keras3conv.rules.library import known_classes
from keras3conv.rules.rule import WeightMapping
from keras3conv.transforms import Transform

_Entry = TypeVar("_Entry")

_EINSUM = "keras.layers.EinsumDense"

_DOUBT = Evidence(
    kind="interchangeable", detail="axes of equal size may be exchanged, which names and shapes do not show"
)


@dataclass(frozen=True, kw_only=True)
class Held:
    """A torch parameter, and the Keras layer of the same name, whose only variable corresponds to it.

    Attributes:
        torch: The parameter.
        layer: The layer.
        keras: The only variable of the layer.
    """

    torch: TensorRef
    layer: LayerView
    keras: TensorRef

    @property
    def transforms(self) -> list[Transform]:
        """The transforms from the parameter to the variable that their shapes allow, the most likely one first."""
        found = list(transforms_between(self.torch.shape, self.keras.shape))
        if len(self.torch.shape) > 2:  # a kernel: (out, in, height, width) becomes (height, width, in, out)
            moved = [one for one in found if _moves_channels(one, self.torch)]
            found = moved + [one for one in found if one not in moved]
        return found


def held_parameters(torch: ModelView, keras: ModelView) -> Iterator[Held]:
    """Yield each torch parameter for which there is a Keras layer of the same name with one variable of its size."""
    holders = _by_words((layer.path, layer) for layer in keras.layers if holds_one_parameter(layer))
    parameters = _by_words((tensor.path, tensor) for tensor in torch.tensors() if not tensor.is_computed)
    for words, layer in holders.items():
        tensor = parameters.get(words)
        variable = _variables(layer)[0]
        if tensor is not None and same_axes(tensor.shape, variable.shape):
            yield Held(torch=tensor, layer=layer, keras=variable)


def named_pairs(torch: ModelView, keras: ModelView, pairs: Iterable[Pair]) -> Iterator[Pair]:
    """Yield the pair of each torch parameter with the only variable of the Keras layer of the same name.

    Args:
        torch: The view of the torch model.
        keras: The view of the Keras model.
        pairs: The pairs made so far; their tensors are left out.
    """
    placed = {path for pair in pairs for mapping in pair.weights for path in (*mapping.torch, *mapping.keras)}
    for held in held_parameters(torch, keras):
        transforms = held.transforms
        if placed & {held.torch.path, held.keras.path} or not transforms:
            continue
        mapping = WeightMapping(torch=(held.torch.path,), keras=(held.keras.path,), transform=transforms[0])
        evidence = Evidence(kind="name", detail=f"the layer holds one variable, and has the name of {held.torch.path}")
        yield pair_of_tensors([mapping], [evidence, _DOUBT] if len(transforms) > 1 else [evidence])


def holds_one_parameter(layer: LayerView) -> bool:
    """Return whether a Keras layer only stores one variable, or multiplies by it without a sum.

    An `EinsumDense` does so if its equation sums over no axis ("ab,b->ab"), or over an axis of size 1. A layer of
    another class is assumed to do so if no rule has its class.
    """
    variables = _variables(layer)
    if len(variables) != 1:
        return False
    if _EINSUM not in layer.kinds:
        return not known_classes()[1].intersection(layer.kinds)
    shape, equation = variables[0].shape, str((layer.config or {}).get("equation", ""))
    given, _, returned = equation.partition("->")
    _, _, kernel = given.partition(",")
    if len(kernel) != len(shape):  # a file of weights has no equation
        return len(shape) == 1 or shape[0] == 1
    return prod(size for axis, size in zip(kernel, shape, strict=True) if axis not in returned) == 1


def _variables(layer: LayerView) -> list[TensorRef]:
    return [tensor for tensor in layer.tensors if not tensor.is_seed]


def _by_words(entries: Iterable[tuple[str, _Entry]]) -> dict[tuple[str, ...], _Entry]:
    """Return the values by the words of their paths, ("cls", "token"); paths with the same words are left out.

    A name in Python cannot start with a digit, so "weight_g_0" and "0.weight_g" have the same words. A layer cannot
    have the name of an operation, so "scale_layer" and "scale" have the same words.
    """
    named = [(_as_a_name(names.words(path)), value) for path, value in entries]
    times = Counter(words for words, _ in named)
    return {words: value for words, value in named if times[words] == 1}


def _as_a_name(words: tuple[str, ...]) -> tuple[str, ...]:
    """Return words with leading numbers moved to the end and without a last "layer": ("0", "g") -> ("g", "0")."""
    numbers = tuple(takewhile(str.isdigit, words))
    rest = words[len(numbers) :]
    return (*(rest[:-1] if len(rest) > 1 and rest[-1] == "layer" else rest), *numbers)


def _moves_channels(transform: Transform, tensor: TensorRef) -> bool:
    """Return whether a transform turns a kernel (out, in, height, width) into (height, width, in, out)."""
    letters = iter("abcdefghijklmnop")
    named = [next(letters) if size != 1 else "" for size in tensor.shape]
    moved = [named[axis] for axis in (*range(2, len(named)), 1, 0) if named[axis]]
    right = str(getattr(transform, "pattern", "")).rpartition("->")[2]
    return [name for name in right.split() if name != "1"] == moved
