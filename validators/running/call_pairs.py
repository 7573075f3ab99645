"""Pair the recorded calls of paired torch and Keras layers, with torch's rows in the order of Keras'."""

import math
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from keras3conv.alignment.pair import Pair
from keras3conv.frameworks.shared.layout import channels_last
from keras3conv.frameworks.shared.recording import Call, Recording
from keras3conv.messages import count
from keras3conv.numerics.difference import FLOAT64_LIMIT, Diff, compare, resolution
from keras3conv.numerics.rows import NEAR, has_equal_rows, in_row_order, relative_distance, row_order
from keras3conv.transforms import Array
from keras3conv.validators.running.layouts import in_one_layout
from keras3conv.validators.running.subject import Subject

_ROUNDING = 1e3
"""The largest difference, in units in the last place, at which rows certainly have the same order in both models."""


@dataclass(frozen=True, kw_only=True)
class CallPair:
    """One call of a torch layer and the matching call of its Keras layer, with both outputs in Keras' layout.

    Attributes:
        pair: The two layers, from the plan.
        torch_output: Output of the torch layer.
        keras_output: Output of the Keras layer, or the input of its built-in activation.
        torch_call: The torch call, in torch's layout.
        keras_call: The Keras call.
        is_moved: Whether the channels of the torch output were moved last, which brought it closer to the Keras output.
        order: The order of the rows of the torch output in Keras, as `row_order` finds it; None if it is the same.
        mismatch: The reason why the outputs cannot be compared; empty if they can be compared.
    """

    pair: Pair
    torch_output: Array | None = None
    keras_output: Array | None = None
    torch_call: Call | None = None
    keras_call: Call | None = None
    is_moved: bool = False
    order: Array | None = None
    mismatch: str = ""

    @property
    def key(self) -> tuple[str, str]:
        """The paths of the torch layer and the Keras layer."""
        return self.pair.torch, self.pair.keras

    @cached_property
    def diff(self) -> Diff | None:
        """The difference of the two outputs; None if they cannot be compared."""
        if self.mismatch or self.torch_output is None or self.keras_output is None:
            return None
        return compare(self.keras_output, self.torch_output)

    def in_same_layout(self, output: Array) -> Array:
        """Return another output of the torch layer (from `in_keras_layout`) in the layout of `torch_output`."""
        output = channels_last(output) if self.is_moved else output
        if self.order is None or self.keras_output is None:
            return output
        return in_row_order(output, self.order, self.keras_output.shape)


def call_pairs(
    subject: Subject, torch: Recording, keras: Recording, *, any_order: bool | None = None
) -> Iterator[CallPair]:
    """Yield a `CallPair` for every call of every paired layer that runs, in torch's call order.

    Args:
        subject: The models and the plan.
        torch: A run of torch.
        keras: A run of Keras.
        any_order: Whether a layer may have its rows in another order in Keras; None for "if the outputs of the models
            are near": if they are not, the other order may be the mistake.
    """
    for pair in subject.pairs_in_call_order:
        torch_calls, keras_calls = torch.of(pair.torch), keras.of(pair.keras)
        if len(torch_calls) != len(keras_calls):
            if _is_in_time_distributed(subject, pair.keras):
                continue
            times = count(len(torch_calls), "time"), count(len(keras_calls), "time")
            mismatch = f"this layer runs {times[0]} in torch, but {times[1]} in Keras"
            yield CallPair(pair=pair, mismatch=mismatch)
            continue
        yield from _matched(subject, pair, torch_calls, keras_calls, any_order)


def probe_calls(subject: Subject) -> tuple[CallPair, ...]:
    """Return a `CallPair` for every layer call of the float64 run with random weights; all proofs share them."""
    return subject.once(_probe_calls)


def _probe_calls(subject: Subject) -> tuple[CallPair, ...]:
    return tuple(call_pairs(subject, subject.torch_probe, subject.keras_probe))


def judged_by_outputs(subject: Subject, called: Collection[tuple[str, str]]) -> tuple[str, ...]:
    """Return the paths of the torch layers with weights that have no call to compare: the outputs alone judge them.

    Such layers are written out on one side, as the gates of an LSTM or a weight that is computed from others.

    Args:
        subject: The models and the plan.
        called: The paths of the layers of each pair that has a call.
    """
    pairs = [pair for pair in subject.plan.pairs if (pair.torch, pair.keras) not in called]
    paths = [path for pair in pairs for mapping in pair.weights for path in mapping.torch]
    owners = list(dict.fromkeys(path.rpartition(".")[0] or path for path in paths))
    return tuple(one for one in owners if not any(one.startswith(f"{other}.") for other in owners))


def _matched(
    subject: Subject, pair: Pair, torch_calls: Sequence[Call], keras_calls: Sequence[Call], any_order: bool | None
) -> Iterator[CallPair]:
    """Pair each call of a torch layer with the call of the Keras layer whose output is closest.

    Keras runs the calls of a functional model level by level: a layer that is shared by branches, such as the head of a
    detector, is called in another order than in torch. Calls in the same order are preferred: the search starts only
    where their outputs differ by more than rounding.
    """

    def matched(torch_place: int, keras_place: int) -> CallPair:
        call = _call_pair(subject, pair, torch_calls[torch_place], keras_calls[keras_place])
        return _in_order(subject, call, (torch_place, keras_place), any_order)

    unused = list(range(len(keras_calls)))
    for torch_place in range(len(torch_calls)):
        best, chosen = matched(torch_place, unused[0]), unused[0]
        distance = _distance(best) if len(unused) > 1 else 0.0
        if distance > NEAR:
            for keras_place in unused[1:]:
                other = matched(torch_place, keras_place)
                if _distance(other) < distance:
                    best, distance, chosen = other, _distance(other), keras_place
        unused.remove(chosen)
        yield best


def _distance(call: CallPair) -> float:
    """Return the relative difference of torch's and Keras' output; infinite if they cannot be compared."""
    return math.inf if call.diff is None else call.diff.max_rel


def _in_order(subject: Subject, call: CallPair, places: tuple[int, int], any_order: bool | None) -> CallPair:
    """Return a call with the rows of torch's output in the order of Keras'; unchanged if they agree as they are.

    Args:
        subject: The two models.
        call: The call.
        places: The numbers of the call among the calls of the torch layer and of the Keras layer.
        any_order: As in `call_pairs`.
    """
    if call.torch_output is None or call.keras_output is None or any_order is False:
        return call
    if _distance(call) <= min(NEAR, _ROUNDING * resolution(call.torch_output)):
        return call
    order = order_of_rows(subject, call.pair, places) if any_order or subject.outputs_are_near else None
    if order is None:
        return call
    torch_output = in_row_order(call.torch_output, order, call.keras_output.shape)
    if torch_output.shape != call.keras_output.shape:
        return call
    return replace(call, torch_output=torch_output, order=order, mismatch="")


def order_of_rows(subject: Subject, pair: Pair, places: tuple[int, int]) -> Array | None:
    """Return the order of torch's rows in the output of a Keras layer, found in the float64 run under random weights.

    There the rows differ by far more than rounding. If the layer computes other values, the order of the rows of its
    input is taken. The result is None if torch's order is also Keras' order.

    Args:
        subject: The two models.
        pair: The torch layer and the Keras layer.
        places: The number of the call among the calls of the torch layer, and among those of the Keras layer.
    """
    torch_calls, keras_calls = subject.torch_probe.of(pair.torch), subject.keras_probe.of(pair.keras)
    if places[0] >= len(torch_calls) or places[1] >= len(keras_calls):
        return None
    call = _call_pair(subject, pair, torch_calls[places[0]], keras_calls[places[1]])
    if call.torch_output is None or call.keras_output is None or _distance(call) <= FLOAT64_LIMIT:
        return None
    order = row_order(call.torch_output, call.keras_output)
    if order is None:
        return _order_of_inputs(call)
    return _order_of_unequal_rows(subject, call) if has_equal_rows(call.torch_output) else order


def _order_of_unequal_rows(subject: Subject, call: CallPair) -> Array | None:
    """Return the order of rows of another layer that is also the order of a layer with equal rows.

    A ReLU may set two rows to zero under the random weights, but not under the weights of the models: rounding would
    decide the order of these rows. If no other layer has such an order, the layer's own one is returned.

    Args:
        subject: The two models.
        call: A call of the layer in the float64 run.
    """
    assert call.torch_output is not None, "the caller found an order"
    assert call.keras_output is not None, "the caller found an order"
    for pair in subject.pairs_in_call_order:
        torch_calls, keras_calls = subject.torch_probe.of(pair.torch), subject.keras_probe.of(pair.keras)
        if not torch_calls or not keras_calls:
            continue
        other = _call_pair(subject, pair, torch_calls[0], keras_calls[0])
        if other.torch_output is None or other.keras_output is None or _distance(other) <= FLOAT64_LIMIT:
            continue
        order = row_order(other.torch_output, other.keras_output)
        if order is None or has_equal_rows(other.torch_output):
            continue
        ordered = in_row_order(call.torch_output, order, call.keras_output.shape)
        if relative_distance(ordered, call.keras_output) <= FLOAT64_LIMIT:
            return order
    return row_order(call.torch_output, call.keras_output)


def _order_of_inputs(call: CallPair) -> Array | None:
    """Return the order of torch's rows in the first input of a Keras layer, if there are as many as in its output."""
    if call.torch_call is None or call.keras_call is None or not call.torch_call.inputs or not call.keras_call.inputs:
        return None
    torch_input, keras_input = call.torch_call.inputs[0], call.keras_call.inputs[0]
    assert call.keras_output is not None
    if math.prod(keras_input.shape[:-1]) != math.prod(call.keras_output.shape[:-1]):
        return None
    if relative_distance(torch_input, keras_input) <= FLOAT64_LIMIT:
        return None
    orders = (row_order(array, keras_input) for array in (torch_input, channels_last(torch_input)))
    return next((order for order in orders if order is not None), None)


def _is_in_time_distributed(subject: Subject, path: str) -> bool:
    """Return whether a Keras layer is inside a TimeDistributed; then the output of the TimeDistributed is judged.

    A TimeDistributed calls the wrapped layer without a hook, and the layers inside it once for each time step.
    """
    names = path.split("/")
    wholes = (subject.keras_layers.get("/".join(names[:place])) for place in range(1, len(names)))
    return any(whole is not None and whole.kind == "keras.layers.TimeDistributed" for whole in wholes)


def _call_pair(subject: Subject, pair: Pair, torch_call: Call, keras_call: Call) -> CallPair:
    torch_output, keras_output, is_moved = in_one_layout(subject, pair, torch_call, keras_call)
    mismatch = ""
    if torch_output.shape != keras_output.shape:
        mismatch = (
            f"this layer returns the shape {torch_call.outputs[0].shape} in torch, but {keras_output.shape} in Keras"
        )
    return CallPair(
        pair=pair,
        torch_output=torch_output,
        keras_output=keras_output,
        torch_call=torch_call,
        keras_call=keras_call,
        is_moved=is_moved,
        mismatch=mismatch,
    )
