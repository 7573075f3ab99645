"""Pair layers by their positions in two lists, as the conversion scripts of Keras model zoos do.

One list has the torch layers, the other the Keras layers. Tables from layer name to position move Keras layers until
both lists have the same order; a layer without an entry keeps its place. The pairs follow from the positions alone, so
they are unconfirmed until `validate` compares the outputs.
"""

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import zip_longest

from keras3conv.alignment.binding import make_pair, pair_of_tensors
from keras3conv.alignment.pair import Evidence, Ignored, Pair, ignored_seeds, misfit, tensors_by_path
from keras3conv.alignment.plan import Alignment
from keras3conv.alignment.shapes import reshaping, without_ones
from keras3conv.errors import AlignmentError, Problem, RuleError, TransformError
from keras3conv.messages import count, lay_out
from keras3conv.model.views import LayerView, ModelView, Side, TensorRef
from keras3conv.planner.evidence.keys import shapes_in_torch
from keras3conv.planner.evidence.structure import ignored_tensors
from keras3conv.planner.ordered.names import Choice, NameTable, TailTable, reordered
from keras3conv.planner.ordered.steps import Transfers, steps, transfers_for
from keras3conv.report.cells import visible
from keras3conv.rules.constants import constant_buffer
from keras3conv.rules.library import known_classes, lookup
from keras3conv.rules.rule import Rule, WeightMapping
from keras3conv.rules.units import units, without_parts
from keras3conv.transforms import Chain, Same, Transform
from keras3conv.width import fitted_table

COUNTER = "num_batches_tracked"


@dataclass(frozen=True, kw_only=True)
class Order:
    """The options of `align_ordered`, by the names of its parameters; the docstring of the function explains them."""

    skip_weights: Collection[str] = (COUNTER,)
    unstack_weights: Collection[str] = ()
    tail_align_dict: TailTable | Sequence[TailTable] = field(default_factory=dict)
    full_name_align_dict: NameTable | Sequence[NameTable] = field(default_factory=dict)
    tail_split_position: int | Sequence[int] = 2
    specific_match_func: Choice | None = None
    additional_transfer: Transfers = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Entry:
    """An entry of the torch list or of the Keras list: a layer with its tensors.

    Attributes:
        name: The name by which the user's tables refer to the entry: that of the layer, or of the separate tensor.
        layer: The layer, with only those tensors that belong to this entry.
        alone: Whether the entry is a single tensor that was separated from its layer (`unstack_weights`).
    """

    name: str
    layer: LayerView
    alone: bool = False


@dataclass(frozen=True, kw_only=True)
class Lists:
    """The list of torch layers and the list of Keras layers in their final order, and the plan that pairs them.

    Attributes:
        torch: The torch list.
        keras: The Keras list.
        plan: The pairs of entries at the same position, without those that do not fit each other.
        problems: One problem for each position whose two entries do not fit each other, and one for unequal lengths.
    """

    torch: tuple[Entry, ...]
    keras: tuple[Entry, ...]
    plan: Alignment
    problems: tuple[Problem, ...]

    def check(self) -> Alignment:
        """Return the plan; if entries do not fit each other, raise one `AlignmentError` that lists all problems."""
        if self.problems:
            where = f"{self.plan.torch.title} and {self.plan.keras.title}"
            raise AlignmentError(lay_out(f"the layers of {where} do not have the same order", self.problems))
        return self.plan


def ordered(torch: ModelView, keras: ModelView, order: Order) -> Lists:
    """Build both lists, reorder the Keras list, and pair the entries at the same position.

    Raises:
        InputError: A table names an unknown layer or a position outside of the list.
    """
    torch_list = _torch_entries(torch, order)
    by_name = {entry.name: entry for entry in _keras_entries(keras)}
    names = reordered(
        [*by_name],
        order.tail_align_dict,
        order.full_name_align_dict,
        order.tail_split_position,
        order.specific_match_func,
    )
    keras_list = [by_name[name] for name in names]
    pairs: list[Pair] = []
    problems: list[Problem] = []
    for position, (first, second) in enumerate(zip(torch_list, keras_list, strict=False)):  # lengths: checked below
        try:
            evidence = Evidence(kind="position", detail=f"position {position} of both lists")
            pairs += _checked(list(_pairs(first, second, order.additional_transfer, evidence)), torch, keras)
        except (TransformError, AlignmentError, RuleError) as error:
            fact = f"position {position}: {error}"
            problems.append(Problem(torch=first.name or torch.name, keras=second.name, fact=fact, fixes=_FIXES))
    if len(torch_list) != len(keras_list):
        problems.insert(0, _unequal_lengths(torch_list, keras_list))
    ignored = (
        *_skipped(torch, order),
        *ignored_tensors(torch, {pair.torch: pair for pair in pairs}),
        *ignored_seeds(keras),
    )
    distinct = {(entry.side, entry.path): entry for entry in reversed(ignored)}
    plan = Alignment(
        pairs=tuple(pairs), ignored=tuple(reversed(distinct.values())), torch=torch.outline(), keras=keras.outline()
    )
    return Lists(torch=tuple(torch_list), keras=tuple(keras_list), plan=plan, problems=tuple(problems))


_FIXES = ("k3c.align_ordered(module, model, dry_run=True)  # prints both lists",)


def _unequal_lengths(torch: Sequence[Entry], keras: Sequence[Entry]) -> Problem:
    """Return the problem to report if the lists differ in length: the lengths, and the entries without a partner."""
    longer, side = (torch, "torch") if len(torch) > len(keras) else (keras, "Keras")
    extra = [entry.name for entry in longer[min(len(torch), len(keras)) :]]
    shown = ", ".join(extra[:4]) + (f" and {len(extra) - 4} more" if len(extra) > 4 else "")
    fact = (
        f"the torch list has {count(len(torch), 'entry', 'entries')}, the Keras list {len(keras)}; "
        f"{shown} of the {side} list would have no partner; skip_weights and unstack_weights change the torch list"
    )
    return Problem(fact=fact, fixes=_FIXES)


def _torch_entries(torch: ModelView, order: Order) -> list[Entry]:
    """Return an entry for every torch layer, in the order of the state dict.

    Each tensor that the option `unstack_weights` names becomes a separate entry.
    """
    entries: list[Entry] = []
    for layer in _outermost(torch):
        rest: list[TensorRef] = []
        position = len(entries)
        for tensor in layer.tensors:
            name = tensor.path.rpartition(".")[2]
            if name in order.skip_weights:
                continue
            if name in order.unstack_weights:
                alone = LayerView(path=tensor.path, tensors=(tensor,))
                entries.append(Entry(name=tensor.path, layer=alone, alone=True))
            else:
                position = position if rest else len(entries)
                rest.append(tensor)
        if rest:
            entries.insert(position, Entry(name=layer.path, layer=replace(layer, tensors=tuple(rest))))
    return entries


def _keras_entries(keras: ModelView) -> list[Entry]:
    """Return a list entry for every Keras layer with variables, in model order.

    An entry is named by the layer's name, or by the layer's path if two layers have the same name.
    """
    entries = []
    layers = [layer for layer in _outermost(keras) if any(not tensor.is_seed for tensor in layer.tensors)]
    last = [layer.path.rpartition("/")[2] for layer in layers]
    for layer, name in zip(layers, last, strict=True):
        tensors = tuple(tensor for tensor in layer.tensors if not tensor.is_seed)
        unique = last.count(name) == 1 and name
        entries.append(Entry(name=name if unique else layer.path, layer=replace(layer, tensors=tensors)))
    return entries


def _outermost(view: ModelView) -> list[LayerView]:
    """Return the layers with tensors; if a rule exists for a container, the container replaces the layers inside it."""
    layers = units(view)
    own = {layer.path: len(layer.tensors) for layer in view.layers}
    wholes = [layer for layer in layers if len(layer.tensors) > own[layer.path]]
    return list(without_parts(layers, wholes, view.side))


def _pairs(torch: Entry, keras: Entry, transfers: Transfers, evidence: Evidence) -> Iterator[Pair]:
    """Yield the pair that a rule makes of a torch entry and a Keras entry; without a rule, yield one pair per tensor.

    Args:
        torch: The entry of the torch list.
        keras: The entry of the Keras list at the same position.
        transfers: The user's functions or transforms for single Keras layers.
        evidence: The evidence to note in the pairs: the position.

    Raises:
        AlignmentError: The entries do not fit each other.
    """
    torch = replace(torch, layer=_without_unknown_config(torch.layer))
    functions = transfers_for(keras.layer, keras.name, transfers)
    rule = None if torch.alone else _rule(torch.layer, keras.layer, shapes_may_differ=bool(functions))
    pair = None if rule is None else make_pair(rule, torch.layer, keras.layer, [evidence])
    if pair is not None and not functions:
        yield pair
        return
    if not functions and not torch.alone:
        _require_unknown(torch.layer, keras.layer)
    steps_so_far = [(tensor, _first_step(tensor, pair)) for tensor in torch.layer.tensors]
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
    torch: Entry,
    keras: Entry,
    pair: Pair | None,
    evidence: Evidence,
) -> Iterator[Pair]:
    """Pair the transformed torch tensors with the Keras variables in order: one pair per tensor, or one in all.

    Args:
        transformed: The torch tensors, each with the transform to apply.
        torch: The entry of the torch list.
        keras: The entry of the Keras list.
        pair: The pair of the layers by a rule: only its mappings are replaced. None yields a pair for each tensor.
        evidence: The evidence to note in the pairs.

    Raises:
        AlignmentError: The numbers or the shapes of the tensors do not fit.
    """
    variables = keras.layer.tensors
    if len(transformed) != len(variables):
        raise AlignmentError(
            f"the transforms of {_shapes(torch.layer.tensors)} do not give the Keras variables {_shapes(variables)}"
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


def _checked(pairs: list[Pair], torch: ModelView, keras: ModelView) -> list[Pair]:
    """Return pairs unchanged; raise `AlignmentError` if a transformed torch tensor and its variable differ in shape.

    Args:
        pairs: The pairs of the torch layer and the Keras layer at each position of the two lists.
        torch: The view of the torch model.
        keras: The view of the Keras model.
    """
    known = tensors_by_path(torch), tensors_by_path(keras)
    facts = [fact for pair in pairs for mapping in pair.weights if (fact := misfit(mapping, *known))]
    if facts:
        raise AlignmentError(facts[0])
    return pairs


def _skipped(torch: ModelView, order: Order) -> Iterator[Ignored]:
    for tensor in torch.tensors():
        name = tensor.path.rpartition(".")[2]
        if name in order.skip_weights:
            constant = "" if tensor.trainable else constant_buffer(name, tensor.dtype)
            yield Ignored(side="torch", path=tensor.path, reason=constant or f"{name} is listed in skip_weights")


def _shapes(tensors: Iterable[TensorRef]) -> str:
    return ", ".join(f"{tensor.role} {tensor.shape}" for tensor in tensors)


def side_by_side(lists: Lists) -> str:
    """Return both lists as a text table with one row per position, followed by the problems.

    Rows whose two entries do not fit each other are marked.
    """
    misfits, rows = {(problem.torch, problem.keras) for problem in lists.problems}, []
    for position, (torch, keras) in enumerate(zip_longest(lists.torch, lists.keras)):
        first, second = _described(torch, lists.plan.torch.name), _described(keras, lists.plan.keras.name)
        fits = torch is not None and keras is not None and (first[0], second[0]) not in misfits
        rows.append([*map(visible, (str(position), *first, *second)), "" if fits else "does not fit"])
    lines = [f"{lists.plan.torch.title} <-> {lists.plan.keras.title}"]
    lines += fitted_table(("position", "torch", "tensors", "keras", "variables", ""), rows).lines
    if lists.problems:
        lines += ["", lay_out(f"{count(len(lists.problems), 'problem')}:", lists.problems)]
    return "\n".join([*lines, ""])


def _described(entry: Entry | None, root: str) -> tuple[str, str]:
    """Return the name and the tensor shapes of a list entry as text; two empty texts for None.

    The root module has the name of the model.
    """
    if entry is None:
        return "", ""
    return entry.name or root, " ".join(str(tensor.shape) for tensor in entry.layer.tensors)
