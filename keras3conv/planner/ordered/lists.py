"""Pair layers by their positions in two lists, as the conversion scripts of Keras model zoos do.

One list has the torch layers, the other the Keras layers. Tables from layer name to position move Keras layers until
both lists have the same order; a layer without an entry keeps its place. The pairs follow from the positions alone, so
they are unconfirmed until `validate` compares the outputs.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import zip_longest

from keras3conv.alignment.pair import Evidence, Ignored, Pair, ignored_seeds, misfit, tensors_by_path
from keras3conv.alignment.plan import Alignment
from keras3conv.errors import AlignmentError, Problem, RuleError, TransformError, first_of
from keras3conv.messages import count, lay_out
from keras3conv.model.views import LayerView, ModelView, TensorRef
from keras3conv.planner.evidence.structure import ignored_tensors
from keras3conv.planner.ordered.names import Choice, NameTable, TailTable, reordered
from keras3conv.planner.ordered.pairing import pairs_of_layers
from keras3conv.planner.ordered.steps import Transfers, transfers_for
from keras3conv.report.cells import visible
from keras3conv.rules.constants import constant_buffer
from keras3conv.rules.units import units, without_parts
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
    tensors = tensors_by_path(torch), tensors_by_path(keras)
    pairs: list[Pair] = []
    problems: list[Problem] = []
    for position, (first, second) in enumerate(zip(torch_list, keras_list, strict=False)):  # lengths: checked below
        try:
            evidence = Evidence(kind="position", detail=f"position {position} of both lists")
            functions = transfers_for(second.layer, second.name, order.additional_transfer)
            found = list(pairs_of_layers(first.layer, second.layer, functions, evidence, alone=first.alone))
            if facts := [fact for pair in found for entry in pair.weights if (fact := misfit(entry, *tensors))]:
                raise AlignmentError(facts[0])
            pairs += found
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
    fact = (
        f"the torch list has {count(len(torch), 'entry', 'entries')}, the Keras list {len(keras)}; "
        f"{first_of(extra, 4)} of the {side} list would have no partner; "
        "skip_weights and unstack_weights change the torch list"
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


def _skipped(torch: ModelView, order: Order) -> Iterator[Ignored]:
    for tensor in torch.tensors():
        name = tensor.path.rpartition(".")[2]
        if name in order.skip_weights:
            constant = "" if tensor.trainable else constant_buffer(name, tensor.dtype)
            yield Ignored(side="torch", path=tensor.path, reason=constant or f"{name} is listed in skip_weights")


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
