"""Pair the two layers at one position of both lists: by a rule, by functions of the user, or tensor by tensor."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from keras3conv.alignment.binding import make_pair, pair_of_tensors
from keras3conv.alignment.pair import Evidence, Pair, misfit
from keras3conv.alignment.shapes import reshaping, without_ones
from keras3conv.errors import AlignmentError
from keras3conv.model.views import LayerView, Side, TensorRef
from keras3conv.planner.evidence.keys import shapes_in_torch
from keras3conv.planner.ordered.steps import Transfer, steps
from keras3conv.rules.library import known_classes, lookup
from keras3conv.rules.rule import Rule, WeightMapping
from keras3conv.transforms import Chain, Same, Transform


def pairs_of_layers(
    torch: LayerView, keras: LayerView, functions: Sequence[Transfer], evidence: Evidence, *, alone: bool = False
) -> Iterator[Pair]:
    """Yield the pair that a rule makes of a torch layer and a Keras layer; without a rule, yield one pair per tensor.

    Args:
        torch: The layer in the torch list.
        keras: The layer in the Keras list at the same position.
        functions: The functions or transforms of the user for the Keras layer.
        evidence: The evidence to note in the pairs: the position.
        alone: Whether the torch layer is a single tensor that was separated from its layer, to which no rule applies.

    Raises:
        AlignmentError: The layers do not fit each other.
    """
    torch = _without_unknown_config(torch)
    rule = None if alone else _rule(torch, keras, shapes_may_differ=bool(functions))
    pair = None if rule is None else make_pair(rule, torch, keras, [evidence])
    if pair is not None and not functions:
        yield pair
        return
    if not functions and not alone:
        _require_unknown(torch, keras)
    steps_so_far = [(tensor, _first_step(tensor, pair)) for tensor in torch.tensors]
    for function in functions:
        shapes = [transform.shapes((tensor.shape,))[0] for tensor, transform in steps_so_far]
        found = steps(function, shapes)
        steps_so_far = [(steps_so_far[source][0], _chain(steps_so_far[source][1], step)) for source, step in found]
    yield from _one_by_one(steps_so_far, torch, keras, pair, evidence)


def _rule(torch: LayerView, keras: LayerView, *, shapes_may_differ: bool) -> Rule | None:
    """Return the first rule that maps every tensor of a torch layer and a Keras layer; None if there is none.

    If `shapes_may_differ`, because a function of the user transforms the tensors further, shapes are ignored: the first
    rule for the two classes is returned.
    """
    tensors = {tensor.path: tensor for tensor in (*torch.tensors, *keras.tensors)}
    for rule in _candidates(torch, keras):
        mappings = make_pair(rule, torch, keras, ()).weights
        placed = {path for mapping in mappings for path in (*mapping.torch, *mapping.keras)}
        needed = {tensor.path for tensor in torch.tensors if tensor.role not in rule.ignored}
        needed |= {tensor.path for tensor in keras.tensors}
        if shapes_may_differ and keras.kinds and placed <= tensors.keys():
            return rule
        if placed == needed and not any(misfit(mapping, tensors, tensors) for mapping in mappings):
            return rule
    return None


def _require_unknown(torch: LayerView, keras: LayerView) -> None:
    """Raise `AlignmentError` if there are rules for the class of one of the layers, but none fits both layers.

    Pairing such layers by equal shapes would hide a kernel that must be transposed.
    """
    rules = _candidates(torch, keras)
    only_vectors = all(len(without_ones(tensor.shape)) < 2 for tensor in torch.tensors)
    from_files = not torch.kinds and not keras.kinds
    if only_vectors if from_files else not rules:
        return
    tensors = {tensor.path: tensor for tensor in (*torch.tensors, *keras.tensors)}
    mappings = [mapping for rule in rules for mapping in make_pair(rule, torch, keras, ()).weights]
    known = [mapping for mapping in mappings if tensors.keys() >= {*mapping.torch, *mapping.keras}]
    facts = [fact for mapping in known if (fact := misfit(mapping, tensors, tensors))]
    if torch.kinds and keras.kinds and facts:
        raise AlignmentError(facts[0])
    raise AlignmentError(
        f"no rule turns the torch tensors {_shapes(torch.tensors)} into the Keras variables {_shapes(keras.tensors)}"
        ": give a transform in additional_transfer"
    )


def _candidates(torch: LayerView, keras: LayerView) -> list[Rule]:
    """Return the rules that pair the classes of these two layers.

    If only one of the classes has rules, or one layer is from a file without classes, return the rules for the other
    class whose shapes fit. If neither class has rules, return none.
    """
    if torch.kinds and keras.kinds and not (_known(torch, "torch") or _known(keras, "keras")):
        return []
    kinds = torch.kinds if _known(torch, "torch") else (), keras.kinds if _known(keras, "keras") else ()
    rules = [rule for rule in lookup(*kinds) if rule.may_apply(torch)]
    return rules if all(kinds) else [rule for rule in rules if shapes_in_torch(rule, keras) is not None]


def _known(layer: LayerView, side: Side) -> bool:
    return bool(known_classes()[0 if side == "torch" else 1].intersection(layer.kinds))


def _without_unknown_config(layer: LayerView) -> LayerView:
    """Return a torch layer without its configuration if no rule has its class; else the unchanged layer."""
    return layer if _known(layer, "torch") else replace(layer, config=None)


def _first_step(tensor: TensorRef, pair: Pair | None) -> Transform:
    """Return the transform that is applied to a torch tensor before the user's function: that of a pair by a rule.

    The transform is the identity if there is no pair, or if the pair computes one variable from several tensors.
    """
    mappings = pair.weights if pair else ()
    found = next((mapping for mapping in mappings if mapping.torch == (tensor.path,) and len(mapping.keras) == 1), None)
    return found.transform if found else Same()


def _chain(first: Transform, second: Transform) -> Transform:
    if isinstance(first, Same):
        return second
    return first if isinstance(second, Same) else Chain(first, second)


def _one_by_one(
    transformed: Sequence[tuple[TensorRef, Transform]],
    torch: LayerView,
    keras: LayerView,
    pair: Pair | None,
    evidence: Evidence,
) -> Iterator[Pair]:
    """Pair the transformed torch tensors with the Keras variables in order: one pair per tensor, or one in all.

    Args:
        transformed: The torch tensors, each with the transform to apply.
        torch: The torch layer.
        keras: The Keras layer.
        pair: The pair of the layers by a rule: only its mappings are replaced. None yields a pair for each tensor.
        evidence: The evidence to note in the pairs.

    Raises:
        AlignmentError: The numbers or the shapes of the tensors do not fit.
    """
    variables = keras.tensors
    if len(transformed) != len(variables):
        raise AlignmentError(
            f"the transforms of {_shapes(torch.tensors)} do not give the Keras variables {_shapes(variables)}"
            ": correct them in additional_transfer"
        )
    weights = []
    for (tensor, transform), variable in zip(transformed, variables, strict=True):
        (shape,) = transform.shapes((tensor.shape,))
        if without_ones(shape) != without_ones(variable.shape):
            becomes = "" if shape == tensor.shape else f" becomes {shape}, and"
            raise AlignmentError(
                f"the tensor {tensor.path} {tensor.shape}{becomes} does not fit the variable {variable.path} "
                f"{variable.shape}: correct the order, or give a transform in additional_transfer"
            )
        whole = _chain(transform, reshaping(shape, variable.shape))
        weights.append(WeightMapping(torch=(tensor.path,), keras=(variable.path,), transform=whole))
    if pair is not None:
        yield replace(pair, weights=tuple(weights))
        return
    for mapping in weights:
        yield pair_of_tensors([mapping], [evidence])


def _shapes(tensors: Iterable[TensorRef]) -> str:
    return ", ".join(f"{tensor.role} {tensor.shape}" for tensor in tensors)
