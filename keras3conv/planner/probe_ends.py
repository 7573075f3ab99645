"""The ends of the probe: whether what the Keras model returned is what torch returned."""

from collections.abc import Mapping

from keras3conv.planner.probe_nearness import SAME_PRINT
from keras3conv.planner.probe_numbers import EXACT, print_of
from keras3conv.planner.probe_record import MANY, TorchRun
from keras3conv.transforms import Array


def known(run: TorchRun, array: Array) -> int | None:
    """What a value depends on that torch had somewhere; None where it had none like it."""
    seen = print_of(array)
    for output in run.outputs.values():
        if print_of(output).agrees(seen, _limit(run)):
            return run.depends
    for calls in run.calls.values():
        for call in calls[:MANY]:
            if any(entry.agrees(seen, SAME_PRINT) for entry in call.prints):
                return call.depends
    return None


def exchanged(run: TorchRun, outputs: Mapping[str, Array]) -> bool:
    """Whether an output is another one of torch's than that of its name, where both sides have the same names.

    Args:
        run: What torch returned.
        outputs: What Keras returned, by name; the numbers of a tuple are no names.
    """
    if outputs.keys() != run.outputs.keys() or all(name.partition(".")[0].isdigit() for name in outputs):
        return False
    prints = {name: print_of(array) for name, array in run.outputs.items()}
    for name, array in outputs.items():
        seen = print_of(array)
        if not prints[name].agrees(seen, _limit(run)):
            return any(other.agrees(seen, _limit(run)) for other in prints.values())
    return False


def _limit(run: TorchRun) -> float:
    return SAME_PRINT if run.limit == EXACT else run.limit


__all__ = ["exchanged", "known"]
