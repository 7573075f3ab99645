"""How near a way to fill a Keras layer is: what it was given, where its torch layer is, what the two are called."""

from collections import Counter

from keras3conv.planner import names
from keras3conv.planner.probe_choices import Trail
from keras3conv.planner.probe_numbers import Print
from keras3conv.planner.probe_option import Option
from keras3conv.planner.probe_record import TorchRun

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
