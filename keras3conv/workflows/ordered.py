"""Align two models by position: `align_ordered`."""

import sys
from collections.abc import Collection, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from keras3conv.alignment.plan import Alignment
from keras3conv.frameworks.adapter import Model, Sides, Views
from keras3conv.frameworks.shared.inputs import both_inputs
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
    """Aligns two models by position: the method, and the parameters, of scripts that convert model zoos.

    One list has torch's tensors, layer by layer, the other the Keras layers with weights; tables bring the second into
    the order of the first. The names of Keras layers are words separated by "_": the first ones are the head, the rest
    the tail. A place is a negative number (so many earlier), another number (counted from 0), or a layer's name.

    Args:
        torch: A torch module, or the path of a checkpoint.
        keras: A Keras model, or the path of a file.
        skip_weights: Torch tensors that are left out, by the last part of their names.
        unstack_weights: Torch tensors that stand for themselves and not with their layer, by the last part of their
            names: class tokens, layer scales.
        tail_align_dict: Places by tail, or such tables by the first word of the name; a list makes several passes.
        full_name_align_dict: Places by the whole name of a layer; a list makes several passes.
        tail_split_position: How many words the head of a name has; a list has a number for each pass.
        specific_match_func: Given the list of names, returns all of them in the final order.
        additional_transfer: What is done to the arrays of a layer after the transforms of its rule, by Keras class or
            by the end of the layer's name: a function from a list of arrays to a list of arrays that only moves axes,
            or transforms of `keras3conv.transforms`, one for each array.
        dry_run: Prints both lists side by side, with what does not fit, and raises nothing.
        inputs: See `align`; the models are run only to see what they flatten.
        keras_inputs: See `align`.

    Returns:
        A plan like that of `align`: it transfers both ways. Of a dry run, a plan of the pairs that fit.

    Raises:
        AlignmentError: The lists are of different length, or what stands at one place does not fit; all at once.
        InputError: A table names a layer or a place that is not there.
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
    if dry_run:
        sys.stdout.write(side_by_side(lists))
        return lists.plan
    return lists.check()


def views_by_call_order(torch: Model, keras: Model, inputs: Any, keras_inputs: Any) -> Views:
    """Return the views of both sides, with their call order if they can run."""
    sides = Sides.of(torch, keras)
    sides.build(inputs, keras_inputs)
    views = sides.views()
    if sides.can_run(views[1], inputs):
        views = sides.traced(views, both_inputs(*views, inputs, keras_inputs))
    return views


def _class_name(layer_class: type) -> str:
    """Return the name of a Keras class in a view."""
    from keras3conv.frameworks.keras import model as keras_side

    return keras_side.class_name(layer_class)
