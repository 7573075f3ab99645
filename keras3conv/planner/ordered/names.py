"""The order of names: where authors of converted model zoos say that a Keras layer stands among torch's.

A pass goes through the names once, in the order of the model, and gives every name its place in a new list: the next
free one, or the one that a table says. The name of a layer in a table stands for the place that this layer had when the
pass began, whatever has moved since.
"""

from collections.abc import Callable, Mapping, Sequence

from keras3conv.errors import InputError, Problem
from keras3conv.messages import lay_out

Place = int | str
"""Where a layer goes: a negative number is so many places earlier than it stands, any other number a place counted from
0, a name the place of that layer."""

TailTable = Mapping[str, Place | Mapping[str, Place]]
"""Places by the tail of a name; or such tables by the first word of the name, its stack, which then count alone."""

NameTable = Mapping[str, Place]
"""Places by the whole name."""

Choice = Callable[[list[str]], Sequence[str]]
"""A function that is given the names in the order found so far, and returns all of them in the right one."""

SEPARATOR = "_"


def reordered(
    names: Sequence[str],
    tails: TailTable | Sequence[TailTable],
    full_names: NameTable | Sequence[NameTable],
    split_positions: int | Sequence[int],
    choose: Choice | None,
) -> tuple[str, ...]:
    """The names in a new order.

    Args:
        names: The names in the order of the model; each once.
        tails: Where layers with these tails go; a sequence makes as many passes, one table each.
        full_names: Where the layers of these names go, before the tails are asked; likewise.
        split_positions: How many words, separated by "_", are the head of a name; the rest is its tail. Passes beyond
            the last position use the last.
        choose: Has the last word: it is given the names, and returns them in their final order.

    Raises:
        InputError: A place is outside of the list, or a name is not in it; all of a pass at once. Or `choose` returned
            other names than it was given.
    """
    tail_tables = [tails] if isinstance(tails, Mapping) else list(tails)
    name_tables = [full_names] if isinstance(full_names, Mapping) else list(full_names)
    positions = [split_positions] if isinstance(split_positions, int) else list(split_positions)
    if not positions or min(positions) < 0:
        raise InputError(f"tail_split_position is {split_positions!r}: it must be a number of words, 0 or more")
    ordered = tuple(names)
    for number in range(max(len(tail_tables), len(name_tables), len(positions))):
        tail_table = tail_tables[number] if number < len(tail_tables) else {}
        name_table = name_tables[number] if number < len(name_tables) else {}
        ordered = _one_pass(ordered, tail_table, name_table, positions[min(number, len(positions) - 1)])
    return ordered if choose is None else _chosen(ordered, choose)


def _one_pass(names: tuple[str, ...], tails: TailTable, full_names: NameTable, split: int) -> tuple[str, ...]:
    before = {name: place for place, name in enumerate(names)}
    placed: list[str] = []
    later: list[tuple[int, str]] = []
    problems: list[Problem] = []
    for name in names:
        entry = _entry(name, tails, full_names, split)
        target = len(placed) if entry is None else _target(entry, before[name], before)
        if isinstance(target, str):
            problems.append(Problem(keras=name, fact=target))
        elif target > len(placed):
            later.append((target, name))
        else:
            placed.insert(target, name)
            _add_due(placed, later)
    if problems:
        raise InputError(lay_out("the order cannot be made", problems))
    return (*placed, *(name for _, name in sorted(later, key=lambda entry: entry[0])))


def _add_due(placed: list[str], later: list[tuple[int, str]]) -> None:
    """Layers that were moved to a later place take it as soon as the list has grown to it."""
    while due := [entry for entry in later if entry[0] <= len(placed)]:
        later.remove(due[0])
        placed.append(due[0][1])


def _entry(name: str, tails: TailTable, full_names: NameTable, split: int) -> Place | None:
    """What the tables say about a name; None if nothing. The name in a table of tails gets the head of this one."""
    if name in full_names:
        return full_names[name]
    words = name.split(SEPARATOR)
    own = tails.get(words[0])
    table = own if isinstance(own, Mapping) else tails
    entry = table.get(SEPARATOR.join(words[split:]))
    if isinstance(entry, Mapping):
        return None
    return SEPARATOR.join([*words[:split], entry]) if isinstance(entry, str) else entry


def _target(entry: Place, here: int, before: Mapping[str, int]) -> int | str:
    """The place that an entry means; what is wrong with it, in words, if it means none."""
    if isinstance(entry, str):
        return before.get(entry, f"is to stand where {entry!r} does, and no layer is called that")
    target = here + entry if entry < 0 else entry
    if not 0 <= target < len(before):
        return f"is to go to place {target}; the places are 0 to {len(before) - 1}"
    return target


def _chosen(names: tuple[str, ...], choose: Choice) -> tuple[str, ...]:
    chosen = tuple(choose(list(names)))
    problems = [Problem(keras=name, fact="is not a name that it was given") for name in dict.fromkeys(chosen)]
    problems = [problem for problem in problems if problem.keras not in names]
    problems += [Problem(keras=name, fact="is missing") for name in names if name not in chosen]
    twice = (name for name in dict.fromkeys(chosen) if chosen.count(name) > 1)
    problems += [Problem(keras=name, fact="is there more than once") for name in twice]
    if problems:
        raise InputError(lay_out("specific_match_func must return every name once", problems))
    return chosen
