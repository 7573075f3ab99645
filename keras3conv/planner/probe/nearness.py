"""How near a way to fill a Keras layer is: what it was given, where its torch layer is, what the two are called."""

from collections import Counter
from collections.abc import Mapping

from keras3conv.numerics.fingerprint import EXACT, Print, print_of
from keras3conv.planner.evidence import names
from keras3conv.planner.probe.option import Option
from keras3conv.planner.probe.record import MANY, TorchRun
from keras3conv.planner.probe.trail import Trail
from keras3conv.transforms import Array

__all__ = ["exchanged", "known"]


SAME, CLOSE, OTHER = 0, 1, 2
"""How well the input of a layer agrees with what a layer of torch was given."""


SAME_PRINT, CLOSE_PRINT = 1e-9, 1e-4
"""How far the sums of two inputs are apart that are the same, or are up to what a constant changes."""


def level_of(run: TorchRun, option: Option, given: Print | None) -> int:
    """How well the input of a Keras layer agrees with what the option's torch layer was given."""
    prints = [entry for call in run.of(option.layers[0].path) for entry in call.prints]
    if given is None:
        return OTHER
    if any(entry.agrees(given, SAME_PRINT) for entry in prints):
        return SAME
    return CLOSE if any(entry.agrees(given, CLOSE_PRINT) for entry in prints) else OTHER


def nearness(run: TorchRun, trail: Trail, option: Option, given: Print | None) -> tuple[int, bool, int]:
    """How near what owns an option's tensors is to a Keras layer, as it is called; the least is the nearest.

    Whether it, or a layer in it, was given the same; whether the last layer that was found is outside of it; and how
    far inside.
    """
    if given is None:
        return OTHER, True, 0
    owner, level = option.owner, level_of(run, option, given)
    if len(option.layers) > 1:
        inside = [call for path in run.calls if path.startswith(f"{owner}.") for call in run.of(path)]
        same = any(entry.agrees(given, SAME_PRINT) for call in inside for entry in call.prints)
        level, owner = SAME if same else OTHER, owner.rpartition(".")[0]
    return level, is_outside(trail, owner), -owner.count(".")


def is_outside(trail: Trail, owner: str) -> bool:
    """Whether the last layer that was found is neither this torch layer nor in it."""
    last = next((choice.option.owner for choice in reversed(trail.choices.values())), "")
    return bool(owner) and not f"{last}.".startswith(f"{owner}.")


def alike_words(torch: str, keras: str) -> int:
    """How many words two paths have in common, numbers aside."""
    first, second = (Counter(word for word in names.words(path) if not word.isdigit()) for path in (torch, keras))
    return (first & second).total()


def resemblance(torch: str, keras: str) -> tuple[bool, int]:
    """Whether two paths mean other things, and how few words they have in common; the least is the most alike."""
    meanings = {names.meaning(torch), names.meaning(keras.rpartition("/")[0]), names.meaning(keras)} - {""}
    return len(meanings) > 1, -alike_words(torch, keras)


def differs(first: Option, second: Option) -> bool:
    """Whether two options are of other tensors; several that are joined, also in which order."""
    if first.kind == "joined":
        return first.parts != second.parts
    return set(first.parts) != set(second.parts)


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
