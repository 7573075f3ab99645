"""Implement `align_ordered`: align two models by position in their lists of layers."""

import sys
from collections.abc import Collection, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from keras3conv.alignment.plan import Alignment
from keras3conv.frameworks.adapter import Model
from keras3conv.frameworks.sides import Sides, Views
from keras3conv.planner.ordered.lists import Order, ordered, side_by_side
from keras3conv.planner.ordered.names import Choice, NameTable, TailTable

_NOTHING: Mapping[Any, Any] = MappingProxyType({})


def align_ordered(  # noqa: PLR0913 - these parameters are what its users know
    torch: Model,
    keras: Model,
    *,
    skip_weights: Collection[str] = ("num_batches_tracked",),
    unstack_weights: Collection[str] = (),
    tail_align_dict: TailTable | Sequence[TailTable] = _NOTHING,
    full_name_align_dict: NameTable | Sequence[NameTable] = _NOTHING,
    tail_split_position: int | Sequence[int] = 2,
    specific_match_func: Choice | None = None,
    additional_transfer: Mapping[str | type, Any] = _NOTHING,
    dry_run: bool = False,
    inputs: Any = None,
    keras_inputs: Any = None,
) -> Alignment:
    """Align two models by position, with the method and parameters of scripts that convert model zoos.

    One list has the torch tensors by layer, the other the Keras layers with weights. Tables move Keras layers into the
    order of torch. A layer name consists of words separated by "_": the first ones are the head, the others the tail. A
    position in a table is a negative number (an offset toward the start), another number (an index), or a layer name.

    Args:
        torch: A torch module, or the path of a checkpoint.
        keras: A Keras model, or the path of a file.
        skip_weights: The last parts of the names of torch tensors to ignore.
        unstack_weights: The last parts of the names of torch tensors that are entries without a layer: class tokens.
        tail_align_dict: The position for each tail; or a table from the first word of a name to such a table. The
        tables in a list are applied one after the other.
        full_name_align_dict: The position for each full name of a layer. The tables in a list are applied in turn.
        tail_split_position: The number of words in the head of a name; a list has a number for each table.
        specific_match_func: A function from the list of names to the same names in the final order.
        additional_transfer: Functions to apply to the arrays of a layer after its rule, by Keras class or by the end of
            the layer's name. A value is a function from a list of arrays to a list of arrays that only moves axes, or
            transforms of `keras3conv.transforms`, one for each array.
        dry_run: Whether to print both lists side by side, with the entries that do not fit, instead of raising.
        inputs: The inputs of the torch module; the models run only to find their call order and flattened tensors.
        keras_inputs: The inputs of the Keras model, if they are not just `inputs` in the Keras memory layout.

    Returns:
        A plan as `align` returns it, for transfers in both directions. For a dry run, a plan of the pairs that fit.

    Raises:
        AlignmentError: The lists have different lengths, or entries at one position do not fit; all are listed.
        InputError: A table names an unknown layer or position.
    """
    named = {key if isinstance(key, str) else _class_name(key): value for key, value in additional_transfer.items()}
    order = Order(
        skip_weights=skip_weights,
        unstack_weights=unstack_weights,
        tail_align_dict=tail_align_dict,
        full_name_align_dict=full_name_align_dict,
        tail_split_position=tail_split_position,
        specific_match_func=specific_match_func,
        additional_transfer=named,
    )
    lists = ordered(*views_by_call_order(torch, keras, inputs, keras_inputs), order)
    if not dry_run:
        return lists.check()
    sys.stdout.write(side_by_side(lists))
    return lists.plan


def views_by_call_order(torch: Model, keras: Model, inputs: Any, keras_inputs: Any) -> Views:
    """Return the views of both models; the view of a model that can be run has the order of the layer calls."""
    sides = Sides.of(torch, keras)
    sides.build(inputs, keras_inputs)
    views = sides.views()
    given, _ = sides.possible_inputs(views, inputs, keras_inputs)
    return views if given is None else sides.traced(views, given)


def _class_name(layer_class: type) -> str:
    """Return the qualified name of a Keras class, as it occurs in a view."""
    from keras3conv.frameworks.keras import model as keras_side

    return keras_side.class_name(layer_class)
