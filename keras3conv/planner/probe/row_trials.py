"""Run the probe again with other row orders of fused weights (query, key, value) if the models' outputs differ."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from keras3conv.frameworks.shared.recording import Call
from keras3conv.planner.evidence import names
from keras3conv.planner.probe.option import Candidate
from keras3conv.planner.probe.outcome import Choice
from keras3conv.planner.probe.row_orders import (
    WITH_ROWS,
    RowOrders,
    fused_orders,
    gate_orders,
    half_orders,
    rotary_orders,
    without_numbers,
)
from keras3conv.planner.probe.search import Search
from keras3conv.planner.probe.trail import Abandoned

_MOST_TRIALS = 80
_MOST_ROUNDS = 3
_MOST_LAYERS = 4
"""The number of layers before the first difference whose row orders are tried."""


@dataclass(frozen=True)
class Attempt:
    """One finished run of the Keras model under assumed orders of weight rows.

    Attributes:
        search: The search with its choices.
        calls: The calls of the Keras layers.
        tried: A sentence about the row orders that were tried without success; empty if none was tried.
    """

    search: Search
    calls: Sequence[Call]
    tried: str = ""


Try = Callable[[RowOrders, int], Attempt]
"""A function that runs the Keras model with given row orders of the weights.

The run is aborted if a layer differs from torch in one of the first calls, up to the given call number.
"""


def with_known_orders(run: Try, integers: frozenset[int]) -> Attempt:
    """Run the Keras model; while its outputs differ from torch, run it again with the next known order of weight rows.

    Args:
        run: Runs the Keras model, with the row orders to assume.
        integers: The integers in the configuration of the torch module.
    """
    first = best = run(RowOrders(), -1)
    for _ in range(_MOST_ROUNDS):
        if best.search.is_equal:
            return best
        better = _improved(best, run, integers)
        if better is None:
            break
        best = better
    if best.search.is_equal:
        return best
    layers = list(dict.fromkeys(without_numbers(key) for key, *_ in _suspects(first.search)))
    if not layers or next(_trials(first.search, first.search.ranking.layers.orders, integers), None) is None:
        return best
    named = ", ".join(map(repr, layers))
    return replace(best, tried=f"no other order of the rows in the weights of {named} makes the outputs agree")


def _improved(best: Attempt, run: Try, integers: frozenset[int]) -> Attempt | None:
    """Return the first run with another row order in which more layers agree with torch than in the best run so far.

    Args:
        best: The best run so far.
        run: Runs the Keras model, with the row orders to assume.
        integers: The integers in the configuration of the torch module.

    Returns:
        The run; None if no row order makes more layers agree.
    """
    orders = best.search.ranking.layers.orders
    for _, trial in zip(range(_MOST_TRIALS), _trials(best.search, orders, integers), strict=False):
        try:
            found = run(trial, best.search.first_difference)
        except Abandoned:
            continue
        if found.search.first_difference > best.search.first_difference:
            return found
    return None


def _trials(search: Search, orders: RowOrders, integers: frozenset[int]) -> Iterator[RowOrders]:
    suspects = list(_suspects(search))
    rotated = {rows for key, rows, _, kind in suspects if kind == "layer" and _is_rotated(key)}
    if rotated and orders.rotated is None:
        yield from (replace(orders, rotated=order) for order in rotary_orders(rotated, integers))
    for key, rows, parts, kind in suspects:
        name = without_numbers(key)
        if kind == "parameter" and name not in orders.fused:
            if parts and key.rpartition(".")[0] in search.ranking.tensors.partitions.layers():
                for order in gate_orders(parts[0]):
                    together = dict.fromkeys(_parameters_beside(search, name), order)
                    yield replace(orders, fused={**orders.fused, **together})
            yield from (replace(orders, fused={**orders.fused, name: order}) for order in half_orders(parts))
            continue
        if name in orders.fused or (kind == "layer" and _has_one_part(key)):
            continue
        for split in (parts,) if len(parts) > 1 else _equal_parts(rows):
            for order in fused_orders(rows, split, integers, whole=kind == "layer"):
                chosen = order.inverse if kind == "joined" else order
                yield replace(orders, fused={**orders.fused, name: chosen})


def _parameters_beside(search: Search, name: str) -> list[str]:
    """Return the chosen parameters of one torch layer and of the layers whose paths differ from its path in an index.

    Args:
        search: The search.
        name: The path of a parameter of the layer, without the indices: "blocks.attn.qkv" for "blocks.0.attn.qkv". The
            paths in the result have no indices either.
    """
    chosen = (choice.candidate for choice in search.choices.values() if choice.candidate.kind == "parameter")
    paths = dict.fromkeys(without_numbers(part.path) for candidate in chosen for part in candidate.slices)
    return [path for path in paths if path.rpartition(".")[0] == name.rpartition(".")[0]]


def _is_rotated(path: str) -> bool:
    return names.meaning(path) in ("query", "key")


def _has_one_part(path: str) -> bool:
    return names.meaning(path) in ("query", "key", "value", "attention output", "down")


def _equal_parts(rows: int) -> Iterator[tuple[int, ...]]:
    yield from ((rows // number,) * number for number in (3, 2) if rows % number == 0)


def _suspects(search: Search) -> Iterator[tuple[str, int, tuple[int, ...], str]]:
    """Yield the torch layers whose row order may be wrong, the one that was chosen last first.

    Only layers that were chosen before the first Keras layer whose output differs from torch are yielded. Each is
    yielded as four items: the path, the number of rows, the numbers of rows of its parts (query, key, value), and the
    kind of the candidate. For a single parameter, the third item is its shape.
    """
    slices: dict[str, list[Choice]] = {}
    before = [choice for choice in search.choices_before_difference() if _has_rows(choice.candidate)]
    for choice in before:
        slices.setdefault(choice.candidate.torch, []).append(choice)
    seen: set[str] = set()
    for choice in reversed(before):
        candidate = choice.candidate
        path = candidate.slices[0].path if candidate.kind == "parameter" else candidate.torch
        key = without_numbers(path)
        if key in seen:
            continue
        seen.add(key)
        if candidate.kind == "parameter":
            tensors = {tensor.path: tensor.shape for layer in candidate.layers for tensor in layer.tensors}
            yield path, 0, tensors[path], "parameter"
            continue
        sizes = [part.stop - part.start for part in candidate.slices if part.axis == 0]
        if candidate.kind == "slice":
            of_choices = {entry.path: entry.candidate.slices[0] for entry in slices[candidate.torch]}
            ordered = sorted(of_choices.values(), key=lambda part: (part.start - part.stop, part.start))
            sizes = [part.stop - part.start for part in ordered]
            yield candidate.torch, sum(sizes), tuple(sizes), "slice"
        elif candidate.kind == "joined":
            of_weight = sizes[: len(candidate.layers)]
            yield candidate.torch, sum(of_weight), tuple(of_weight), "joined"
        else:
            yield candidate.torch, candidate.layers[0].shapes["weight"][0], (), "layer"
        if len(seen) == _MOST_LAYERS:
            return


def _has_rows(candidate: Candidate) -> bool:
    """Return whether each row of a candidate's torch weights computes one output feature."""
    if candidate.kind == "parameter":
        return len({part.path for part in candidate.slices}) == 1
    has_kind = candidate.kind in ("layer", "slice", "joined")
    return has_kind and candidate.rule is not None and candidate.rule.torch in WITH_ROWS
