"""Restore the execution order of the layers in a nested model from the numbers in their names.

Keras saves the trainable weights of a nested model before its frozen weights, which changes the order. A file without
an architecture does not store which layers were frozen.
"""

import re
from collections.abc import Hashable, Mapping, Sequence

_NUMBER = re.compile(r"\d+")


def proven_order(layers: Sequence[tuple[str, Hashable]]) -> tuple[list[str], frozenset[str]]:
    """Return layer names sorted by the numbers in them, and the names whose order remains unproven.

    Layers with different shapes cannot be confused, so only the order among layers of the same shapes matters. This
    order is proven if their names differ by numbers only: "dense", "dense_1", "dense_2".

    Args:
        layers: The names with the shapes of the layers' weights, in the order of the file.

    Example:
        >>> proven_order([("d1", (6, 6)), ("d3", (6, 6)), ("head", (6, 2)), ("d2", (6, 6))])
        (['d1', 'd2', 'head', 'd3'], frozenset())
    """
    alike: dict[Hashable, list[str]] = {}
    for name, shapes in layers:
        alike.setdefault(shapes, []).append(name)
    ordered: dict[Hashable, list[str]] = {}
    unproven: set[str] = set()
    for shapes, names in alike.items():
        numbers = _numbers(names)
        if len(names) > 1 and not numbers:
            unproven.update(names)
        ordered[shapes] = sorted(names, key=lambda name: numbers[name]) if numbers else names
    waiting = {shapes: iter(names) for shapes, names in ordered.items()}
    return [next(waiting[shapes]) for _, shapes in layers], frozenset(unproven)


def _numbers(names: Sequence[str]) -> Mapping[str, tuple[int, ...]]:
    """Return the numbers in names that differ only by numbers: {"dense": (0,), "dense_1": (1,)}; {} for other names."""
    parts = [name.rpartition("_") for name in names]
    firsts = {start for start, _, number in parts if number.isdigit()}
    numbered = {name: f"{name}_0" if name in firsts else name for name in names}
    families = {_NUMBER.sub("#", name) for name in numbered.values()}
    found = {name: tuple(map(int, _NUMBER.findall(text))) for name, text in numbered.items()}
    return found if len(families) == 1 and len(set(found.values())) == len(names) else {}
