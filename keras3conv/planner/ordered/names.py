"""Reorder the names of Keras layers by tables that the user gives, until they are in the order of the torch layers.

A table assigns a target to the full name of a layer or to the end of its name: an index, a negative offset from its
present position, or the name of a layer, which means that layer's present position. A pass goes through the names in
order and inserts each into a new list, at its target or, without a target, at the end. There is one pass per table.
"""

from collections.abc import Callable, Mapping, Sequence

from keras3conv.errors import InputError, Problem
from keras3conv.messages import lay_out

Target = int | str
"""The new position of a layer in a list of layers.

A negative number is an offset from its present position, any other number is an index, and a name means the present
position of the layer with this name.
"""

TailTable = Mapping[str, Target | Mapping[str, Target]]
"""A table from the tail (the end) of a layer name to the new position of the layer.

A key may also be the first word of names, with a table from tail to position; names with this first word then use only
that table.
"""

NameTable = Mapping[str, Target]
"""A table from the whole name of a layer to its new position."""

Choice = Callable[[list[str]], Sequence[str]]
"""A function that receives all layer names in their present order and returns them in the right order."""

SEPARATOR = "_"


def reordered(
    names: Sequence[str],
    tails: TailTable | Sequence[TailTable],
    full_names: NameTable | Sequence[NameTable],
    split_positions: int | Sequence[int],
    choose: Choice | None,
) -> tuple[str, ...]:
    """Return the names of the Keras layers in the order that the tables of the user give them.

    Args:
        names: The names in model order, each once.
        tails: The targets of layers by the tail (the end) of their names: {"shortcut_conv": -2} moves such a layer two
            places forward. A target is an index, a negative offset from the present position, or the tail of a layer
            whose present position it means. A sequence has one table for each pass.
        full_names: The targets by full name, which override those by tail; a layer is named in full here, too. A
            sequence has one table for each pass.
        split_positions: The number of words in a layer name, separated by "_", before the tail: 2 for the tail
            "shortcut_conv" of "stack1_block1_shortcut_conv". A sequence has one number for each pass; later passes use
            the last one.
        choose: Receives the names after all passes and returns them in their final order.

    Raises:
        InputError: A target is outside of the list, or names an unknown layer (the message lists every such target of
            the pass), or `choose` did not return every name once.
    """
    tail_tables = [tails] if isinstance(tails, Mapping) else list(tails)
    name_tables = [full_names] if isinstance(full_names, Mapping) else list(full_names)
    positions = [split_positions] if isinstance(split_positions, int) else list(split_positions)
    if not positions or min(positions) < 0:
        raise InputError(
            "tail_split_position must be 0 or more, the number of words (separated by '_') before the tail of a layer "
            f"name, but is {split_positions!r}"
        )
    ordered = tuple(names)
    for number in range(max(len(tail_tables), len(name_tables), len(positions))):
        tail_table = tail_tables[number] if number < len(tail_tables) else {}
        name_table = name_tables[number] if number < len(name_tables) else {}
        ordered = _one_pass(ordered, tail_table, name_table, positions[min(number, len(positions) - 1)])
    return ordered if choose is None else _chosen(ordered, choose)


def _one_pass(names: tuple[str, ...], tails: TailTable, full_names: NameTable, split: int) -> tuple[str, ...]:
    before = {name: position for position, name in enumerate(names)}
    placed: list[str] = []
    later: list[tuple[int, str]] = []
    problems: list[Problem] = []
    for name in names:
        entry = _entry(name, tails, full_names, split)
        position = len(placed) if entry is None else _position(entry, before[name], before)
        if isinstance(position, str):
            problems.append(Problem(keras=name, fact=position))
        elif position > len(placed):
            later.append((position, name))
        else:
            placed.insert(position, name)
            _add_due(placed, later)
    if problems:
        raise InputError(lay_out("the Keras layers cannot be reordered", problems))
    return (*placed, *(name for _, name in sorted(later, key=lambda entry: entry[0])))


def _add_due(placed: list[str], later: list[tuple[int, str]]) -> None:
    """Move the layers whose target position is at most the length of `placed` from `later` to the end of `placed`.

    Args:
        placed: The names of the layers in their new order so far; it is changed in place.
        later: The target position and the name of each layer that waits until `placed` is long enough; it is changed
            in place.
    """
    while due := [entry for entry in later if entry[0] <= len(placed)]:
        later.remove(due[0])
        placed.append(due[0][1])


def _entry(name: str, tails: TailTable, full_names: NameTable, split: int) -> Target | None:
    """Return the new position that the tables give a layer: a number, or the layer whose position it gets.

    Args:
        name: The name of a Keras layer: words separated by "_".
        tails: The new positions by the tail (the end) of a name. A position may be a tail, too: the first words of
            `name` are then put before it, which gives the name of a layer.
        full_names: The new positions by whole name; they override those by tail.
        split: The number of words of a name before its tail.

    Returns:
        The new position; None if the tables have none for this name.
    """
    if name in full_names:
        return full_names[name]
    words = name.split(SEPARATOR)
    own = tails.get(words[0])
    table = own if isinstance(own, Mapping) else tails
    entry = table.get(SEPARATOR.join(words[split:]))
    if isinstance(entry, Mapping):
        return None
    return SEPARATOR.join([*words[:split], entry]) if isinstance(entry, str) else entry


def _position(target: Target, here: int, before: Mapping[str, int]) -> int | str:
    """Return the list index to which a table moves a layer; for an invalid target the text of the error.

    Args:
        target: An index, a negative offset from `here`, or the name of a layer.
        here: The present position of the layer that is to be moved.
        before: The present position of every layer, by name.
    """
    if isinstance(target, str):
        return before.get(
            target, f"this layer is to move to the position of {target!r}, but no Keras layer has that name"
        )
    position = here + target if target < 0 else target
    if not 0 <= position < len(before):
        return f"this layer is to move to position {position}, but the positions are 0 to {len(before) - 1}"
    return position


def _chosen(names: tuple[str, ...], choose: Choice) -> tuple[str, ...]:
    chosen = tuple(choose(list(names)))
    problems = [
        Problem(keras=name, fact="the function that orders the names returned this name, but no Keras layer has it")
        for name in dict.fromkeys(chosen)
    ]
    problems = [problem for problem in problems if problem.keras not in names]
    problems += [
        Problem(keras=name, fact="the function did not return the name of this layer")
        for name in names
        if name not in chosen
    ]
    twice = (name for name in dict.fromkeys(chosen) if chosen.count(name) > 1)
    problems += [
        Problem(keras=name, fact="the function that orders the names returned this name more than once")
        for name in twice
    ]
    if problems:
        raise InputError(lay_out("specific_match_func must return every name exactly once", problems))
    return chosen
