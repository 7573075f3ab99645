"""Compare the outputs of the Keras model with the values that torch recorded."""

from collections.abc import Mapping

from keras3conv.planner.probe_nearness import SAME_LIMIT
from keras3conv.planner.probe_numbers import EXACT, fingerprint_of
from keras3conv.planner.probe_record import MANY, TorchRun
from keras3conv.transforms import Array


def find_recorded(run: TorchRun, array: Array) -> int | None:
    """Return the tensors, as bits, that an equal torch value depends on; None where torch has no equal value."""
    found = fingerprint_of(array)
    for output in run.outputs.values():
        if fingerprint_of(output).agrees(found, _limit(run)):
            return run.output_dependencies
    for calls in run.calls.values():
        for call in calls[:MANY]:
            if any(entry.agrees(found, SAME_LIMIT) for entry in call.inputs):
                return call.dependencies
    return None


def outputs_are_swapped(run: TorchRun, outputs: Mapping[str, Array]) -> bool:
    """Return whether an output equals a torch output of another name, where both sides have the same names.

    Args:
        run: The recorded torch run.
        outputs: The Keras outputs by name; the positions in a tuple are no names.
    """
    if outputs.keys() != run.outputs.keys() or all(name.partition(".")[0].isdigit() for name in outputs):
        return False
    recorded = {name: fingerprint_of(array) for name, array in run.outputs.items()}
    for name, array in outputs.items():
        found = fingerprint_of(array)
        if not recorded[name].agrees(found, _limit(run)):
            return any(other.agrees(found, _limit(run)) for other in recorded.values())
    return False


def _limit(run: TorchRun) -> float:
    return SAME_LIMIT if run.limit == EXACT else run.limit


__all__ = ["find_recorded", "outputs_are_swapped"]
