"""Pair the tensors of a packed layer, such as one Linear for query, key and value, with those of three layers."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from math import prod

from keras3conv.errors import RuleError
from keras3conv.model.views import LayerView, TensorRef
from keras3conv.rules.applying import full_paths
from keras3conv.rules.families.linear.dense import GPT2_CONV1D
from keras3conv.rules.library import lookup
from keras3conv.rules.rule import WeightMapping
from keras3conv.transforms import Axes, Beside, Chain, Drop, Fill, Same, Shape, Split, Transform

LINEAR = "torch.nn.Linear"

_PACKED_ROLES = {"in_proj_weight": "weight", "in_proj_bias": "bias"}
"""The packed projections in a torch MultiheadAttention, each with the name of the same tensor in a Linear.
"""


def as_linear(layer: LayerView) -> LayerView:
    """Return the view of a MultiheadAttention as that of a Linear with its packed query, key and value projections.

    `in_proj_weight` becomes "weight", and `in_proj_bias` "bias". Any other layer is returned unchanged.
    """
    tensors = tuple(
        replace(tensor, role=_PACKED_ROLES[tensor.role]) for tensor in layer.tensors if tensor.role in _PACKED_ROLES
    )
    return replace(layer, tensors=tensors, config=None, kinds=(LINEAR,)) if tensors else layer


def packed_mappings(
    torch: Sequence[LayerView], keras: Sequence[LayerView], heads: int = 1
) -> tuple[WeightMapping, ...]:
    """Return the mappings between a packed layer of one model (query, key and value in one) and its parts in the other.

    If only some of the parts have a bias, the packed layer has a bias of zeros for the others. If both layers are
    packed, torch stores the rows head by head, and Keras stores all of the query, then the key, then the value.

    Args:
        torch: The torch layers: the packed one, or the parts in the order that their rows have in the packed Keras
            layer.
        keras: The Keras layers: the packed one, or the parts in the order that their rows have in the packed torch
            layer.
        heads: The number of attention heads if the packed rows go head by head: query, key and value of the first head,
            then those of the second. 1 if all rows of the query come first, then all of the key.

    Returns:
        The mappings of the weights and of the biases; empty if the layers do not fit.
    """
    if len(torch) == 1 and _is_transposed(torch[0]):
        linear = _with_outputs_first(torch[0])
        return tuple(_from_inputs_first(mapping, torch[0]) for mapping in _split(linear, keras, heads))
    linears = [as_linear(layer) for layer in torch]
    if not all(_is_linear(layer) for layer in linears):
        return ()
    if len(torch) == 1:
        return tuple(_split(linears[0], keras, heads))
    return tuple(_joined(linears, keras[0], heads)) if len(keras) == 1 else ()


def _is_transposed(layer: LayerView) -> bool:
    """Return whether a layer is a Conv1D of GPT-2, a linear layer whose weight has the shape (inputs, outputs).

    A file does not contain the class. There the bias shows it, which has as many values as the layer has outputs.
    """
    weight, bias = layer.shapes.get("weight", ()), layer.shapes.get("bias", ())
    if layer.kinds:
        return GPT2_CONV1D in layer.kinds
    return len(weight) == 2 and weight[0] != weight[1] and bias == weight[1:]


def _with_outputs_first(layer: LayerView) -> LayerView:
    """Return the view of a Conv1D of GPT-2 as that of a Linear, whose weight has the shape (outputs, inputs)."""
    tensors = (replace(one, shape=one.shape[::-1]) if one.role == "weight" else one for one in layer.tensors)
    return replace(layer, tensors=tuple(tensors), config=None, kinds=(LINEAR,))


def _from_inputs_first(mapping: WeightMapping, layer: LayerView) -> WeightMapping:
    """Return a mapping of the tensors of `_with_outputs_first` as one of the tensors that the layer has.

    Args:
        mapping: The mapping.
        layer: The Conv1D of GPT-2.
    """
    weight = next(tensor.path for tensor in layer.tensors if tensor.role == "weight")
    if mapping.torch != (weight,):
        return mapping
    return replace(mapping, transform=Chain(Axes("i o -> o i"), mapping.transform))


def _is_linear(layer: LayerView) -> bool:
    return len(layer.shapes.get("weight", ())) == 2 and (not layer.kinds or LINEAR in layer.kinds)


def _split(packed: LayerView, parts: Sequence[LayerView], heads: int) -> Iterator[WeightMapping]:
    rows = tuple(_rows(part) for part in parts)
    if len(parts) == 1 and heads > 1 and not _fused_order(rows[0], heads, 1):
        return
    if sum(rows) != packed.shapes["weight"][0] or any(size % heads for size in rows):
        return
    made = [_mappings(_with_rows(packed, size), part) for size, part in zip(rows, parts, strict=True)]
    if not all(made):
        return
    for tensor in packed.tensors:
        found = [entry.get(tensor.path) for entry in made]
        if len(parts) == 1 and found[0]:
            order = _fused_order(rows[0], heads, len(tensor.shape))
            yield replace(found[0], transform=Chain(*order, found[0].transform)) if order else found[0]
            continue
        steps = [mapping.transform if mapping else Drop(0, (size,)) for mapping, size in zip(found, rows, strict=True)]
        keras = tuple(mapping.keras[0] for mapping in found if mapping)
        parted = _parted(rows, heads, len(tensor.shape))
        yield WeightMapping(torch=(tensor.path,), keras=keras, transform=Chain(*parted, Beside(*steps)))
    if "bias" not in packed.shapes:
        biases = (tensor for part in parts for tensor in part.tensors if tensor.role == "bias")
        yield from (WeightMapping(torch=(), keras=(one.path,), transform=Fill(0, one.shape)) for one in biases)


def _fused_order(rows: int, heads: int, axes: int) -> tuple[Transform, ...]:
    """Return the transform, in a tuple, that reorders the rows of a packed tensor from head by head to part by part.

    Both layers are packed, so their number of parts is assumed: 2 if each head has two rows, else 3 (query, key and
    value). The result is empty for one head, and if the rows cannot be divided so.

    Args:
        rows: The number of rows, the elements along the first axis.
        heads: The number of attention heads: groups of rows, each of which has rows of every part.
        axes: The number of axes of the tensor.
    """
    parts = 2 if rows == 2 * heads else 3
    if heads == 1 or rows % (parts * heads):
        return ()
    rest = "".join(f" {name}" for name in "wxyz"[: axes - 1])
    return (Axes(f"(g p s){rest} -> (p g s){rest}", g=heads, p=parts),)


def _parted(rows: Sequence[int], heads: int, axes: int) -> tuple[Transform, ...]:
    """Return the transforms, applied in sequence, that split a packed tensor into its parts along the first axis.

    Args:
        rows: The number of rows of each part, such as those of query, key and value.
        heads: The number of attention heads if the rows go head by head: query, key and value of the first head, then
            those of the second. 1 if all rows of the query come first.
        axes: The number of axes of the packed tensor: 2 for a weight, 1 for a bias.
    """
    if heads == 1:
        return (Split(0, tuple(rows)),)
    rest = "".join(f" {name}" for name in "wxyz"[: axes - 1])
    apart = Axes(f"(g s){rest} -> g s{rest}", g=heads)
    sizes = tuple(size // heads for size in rows)
    together = (Axes(f"g s{rest} -> (g s){rest}", g=heads, s=size) for size in sizes)
    return apart, Split(1, sizes), Beside(*together)


def _joined(parts: Sequence[LayerView], packed: LayerView, heads: int) -> Iterator[WeightMapping]:
    sizes = tuple(part.shapes["weight"][0] for part in parts)
    if any(size % heads for size in sizes):
        return
    complete = next((part for part in parts if "bias" in part.shapes), parts[0])
    made = _mappings(_with_rows(complete, sum(sizes)), packed)
    for tensor in complete.tensors if made else ():
        own = [next((other for other in part.tensors if other.role == tensor.role), None) for part in parts]
        mapping = made.get(tensor.path)
        if mapping is None:  # the packed layer has no bias
            biases = (entry for entry in own if entry)
            yield from (WeightMapping(torch=(one.path,), keras=(), transform=Drop(0, one.shape)) for one in biases)
            continue
        steps: list[Transform] = [Chain(*_parted(sizes, heads, len(tensor.shape))).inverse, mapping.transform]
        if None in own:
            fill = [Same() if entry else Fill(0, (size,)) for entry, size in zip(own, sizes, strict=True)]
            steps.insert(0, Beside(*fill))
        torch = tuple(entry.path for entry in own if entry)
        yield WeightMapping(torch=torch, keras=mapping.keras, transform=Chain(*steps))
    if made and "bias" not in complete.shapes:
        biases = (tensor for tensor in packed.tensors if tensor.role == "bias")
        yield from (WeightMapping(torch=(), keras=(one.path,), transform=Fill(0, one.shape)) for one in biases)


def _rows(keras: LayerView) -> int:
    """Return the number of outputs of a Dense or EinsumDense layer (rows of a torch weight); 0 for other layers."""
    kernel = keras.shapes.get("kernel", ())
    has_rule = next(iter(lookup((LINEAR,), keras.kinds)), None) is not None
    return prod(kernel[1:]) if len(kernel) > 1 and has_rule else 0


def _with_rows(layer: LayerView, rows: int) -> LayerView:
    """Return a copy of a Linear's view, with the same paths, in which weight and bias have another number of rows.

    Args:
        layer: The view of the Linear.
        rows: The number of rows, which is the number of outputs.
    """

    def resized(tensor: TensorRef) -> TensorRef:
        return replace(tensor, shape=(rows, *tensor.shape[1:]))

    config = None if layer.config is None else {**layer.config, "out_features": rows}
    return replace(layer, tensors=tuple(map(resized, layer.tensors)), config=config)


def _mappings(torch: LayerView, keras: LayerView) -> dict[str, WeightMapping]:
    """Return the mapping of each tensor of a Linear to a tensor of a Keras layer, by the path of the torch tensor.

    The result is empty if the kernels do not fit. A bias that only one of the layers has is left out.
    """
    shapes = {tensor.path: tensor.shape for tensor in (*torch.tensors, *keras.tensors)}
    for rule in lookup((LINEAR,), keras.kinds):
        try:
            mappings = [mapping for mapping in full_paths(rule, torch, keras) if mapping.torch and mapping.keras]
        except RuleError:  # the rule needs entries of the configuration that are unknown
            continue
        if mappings and all(_fits(mapping, shapes) for mapping in mappings):
            return {mapping.torch[0]: mapping for mapping in mappings}
    return {}


def _fits(mapping: WeightMapping, shapes: Mapping[str, Shape]) -> bool:
    if len(mapping.torch) != 1 or len(mapping.keras) != 1 or not {*mapping.torch, *mapping.keras} <= shapes.keys():
        return False
    return mapping.transform.shapes((shapes[mapping.torch[0]],)) == (shapes[mapping.keras[0]],)
