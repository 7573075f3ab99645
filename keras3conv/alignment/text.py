"""Show a plan as text, and as HTML for notebooks. Lines that differ only in a number ("block.0.fc") become one line."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from keras3conv.alignment.pair import Pair, Plan
from keras3conv.collapsing import collapse
from keras3conv.errors import first_of
from keras3conv.messages import count, lay_out
from keras3conv.report import notebook
from keras3conv.report.cells import visible
from keras3conv.report.grids import LONG
from keras3conv.report.values import Cell, Status, Table
from keras3conv.rules.rule import WeightMapping
from keras3conv.width import columns, fitted_table, folded, keeps_words

SHOWN_PROBLEMS = 20
"""The maximum number of problems to list; the text ends with the number of those left out."""


_SHOWN_PAIRS = 5


@dataclass(frozen=True, kw_only=True)
class _Part:
    """A section of the text of a plan: a table with a heading.

    Attributes:
        heading: The heading.
        columns: The names of the columns.
        rows: The rows.
        paths: The number of columns, from the left, that hold paths.
        rest: A function that returns the other cells of a row in one line, for a terminal that is too narrow.
    """

    heading: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    paths: int
    rest: Callable[[Sequence[str]], str]


def describe(plan: Plan) -> str:
    """Return a plan as text: a summary, notes, tables of pairs, unconfirmed pairs and ignored tensors, the problems.

    No table is wider than the terminal.
    """
    blocks = ["\n".join([summary(plan), *map(visible, (*_differing(plan), *_origin(plan), *plan.notes))])]
    blocks += ["\n  ".join([part.heading, *_table(part)]) for part in _parts(plan)]
    if lines := other_orders(plan.pairs):
        heading = (
            "If the rows of a layer (packed, or after a flatten) must be reordered, which names and shapes do not show:"
        )
        blocks.append(visible("\n  ".join([heading, *lines]), keep="\n"))
    if problems := plan.problems():
        headline = f"{count(len(problems), 'problem')}:"
        blocks.append(visible(lay_out(headline, problems, limit=SHOWN_PROBLEMS), keep="\n"))
    return "\n\n".join(blocks)


def describe_html(plan: Plan) -> str:
    """Return a plan as an HTML fragment for notebooks; special characters in names are escaped."""
    status: Status = "failed" if plan.problems() or plan.difference else "passed"
    pieces = [notebook.title(f"{plan.torch.title} <-> {plan.keras.title}", status), notebook.paragraph(summary(plan))]
    pieces += map(notebook.paragraph, (*_differing(plan), *_origin(plan), *plan.notes))
    if problems := plan.problems():
        text = lay_out(f"{count(len(problems), 'problem')}:", problems, limit=SHOWN_PROBLEMS)
        pieces.append(notebook.code(text))
    for part in _parts(plan):
        is_open = len(part.rows) <= LONG
        pieces.append(notebook.folded(part.heading, notebook.table(part.columns, part.rows), is_open=is_open))
    return notebook.box(*pieces)


def summary(plan: Plan) -> str:
    """Return a plan in one line: "a <-> b: 3 pairs, 0 not confirmed, 1 tensor ignored, no problems"."""
    unconfirmed = sum(pair.unconfirmed for pair in plan.pairs)
    counts = [
        count(len(plan.pairs), "pair"),
        f"{unconfirmed:,} not confirmed",
        f"{count(len(plan.ignored), 'tensor')} ignored",
        count(len(plan.problems()), "problem") if plan.problems() else "no problems",
        *(["but the outputs differ"] if plan.difference else []),
    ]
    return visible(f"{plan.torch.title} <-> {plan.keras.title}: {', '.join(counts)}")


def _differing(plan: Plan) -> tuple[str, ...]:
    """Return a line on the difference of the two models' outputs, with the call that finds its cause; else nothing."""
    if plan.accepted_difference:
        return (f"! {plan.accepted_difference}: this was accepted",)
    command = "the cause is named by:  k3c.validate(torch, keras, plan=plan)"
    return (f"! {plan.difference}", command) if plan.difference else ()


def _origin(plan: Plan) -> tuple[str, ...]:
    """Return a note with the name of the state dict ("ema"), in a tuple; empty if the checkpoint does not name it."""
    return (f"state dict of the torch tensors: {plan.torch.state_dict}",) if plan.torch.state_dict else ()


def declared_loss(mappings: Iterable[WeightMapping]) -> str:
    """Return the values that transforms lose, with the tensors: "only the sum ...: a, b <-> c"; empty if none do.

    Args:
        mappings: The mappings; those with a lossless transform are left out.
    """
    found: dict[str, list[str]] = {}
    for mapping in mappings:
        if not mapping.transform.lossless:
            where = f"{', '.join(mapping.torch)} <-> {', '.join(mapping.keras)}"
            found.setdefault(mapping.transform.loss, []).append(where)
    return "; ".join(f"{loss}: {first_of(places, _SHOWN_PAIRS, '; ')}" for loss, places in found.items())


def accepted_difference(plan: Plan) -> dict[str, str]:
    """Return a fact for a report: the difference of the outputs that the user accepted; empty if there is none."""
    accepted = plan.accepted_difference
    return {"accepted difference": f"the outputs were compared: {accepted}"} if accepted else {}


def unconfirmed_reason(pairs: Sequence[Pair]) -> str:
    """Return a sentence that names the unconfirmed pairs, and says how to confirm them; empty for no pairs."""
    if not pairs:
        return ""
    differing = [pair for pair in pairs if pair.decided_by == "forced"]
    others = [pair for pair in pairs if pair not in differing]
    kept = ". As paired, the rows keep their order, which may be wrong; the printed plan has a line that reorders them"
    order = kept if other_orders(others) else ""
    reasons = [f"in the run of both models the outputs of {_named(differing)} differed"] if differing else []
    if others:
        named = f"{_named(others)}{_doubts(others)}"
        reasons.append(f"no run has confirmed the pairs of {named}; validate two live models{order}")
    return "; ".join(reasons)


def _named(pairs: Sequence[Pair]) -> str:
    """Return the torch paths of some pairs as text; paths that differ in a number are joined: "c{1..2}, fc"."""
    return first_of([line.paths[0] for line in collapse([(pair.torch,) for pair in pairs])], _SHOWN_PAIRS)


def _doubts(pairs: Sequence[Pair]) -> str:
    """Return in parentheses what is unknown about the first pair whose values may be in another order; "" for none."""
    return next((f" ({pair.torch} is {doubt})" for pair in pairs if (doubt := _unknown_order(pair))), "")


def _unknown_order(pair: Pair) -> str:
    """Return what the shapes of a pair of tensors leave unknown, such as the order of equal axes; "" for nothing."""
    is_alone = len(pair.weights) == 1 and (pair.torch, pair.keras) == (*pair.weights[0].torch, *pair.weights[0].keras)
    return next((one.detail for one in pair.evidence if is_alone and one.kind == "interchangeable"), "")


def _table(part: _Part) -> list[str]:
    """Return the lines of one table of a plan, indented by two characters and not wider than the terminal.

    If words would be broken, every path is on a separate line, so that it can be copied.
    """
    rows, width = [tuple(map(visible, row)) for row in part.rows], columns() - 2
    if keeps_words(part.columns, rows, width):
        return fitted_table(part.columns, rows, width, whole=range(part.paths)).lines
    return [line for row in rows for line in _stacked(part, row, width)]


def _stacked(part: _Part, row: Sequence[str], width: int) -> list[str]:
    """Return a row of a table as several lines: its paths, the second one after "<->", then the other cells."""
    first, *others = row[: part.paths]
    named = [first, *(f"  <-> {path}" for path in others)]
    return [*named, *folded(f"      {part.rest(row[part.paths :])}", width).split("\n")]


def _parts(plan: Plan) -> Iterator[_Part]:
    if plan.pairs:
        names = ("torch", "keras", "layer", "decided by", "pairs", "tensors")
        yield _Part(heading="Pairs", columns=names, rows=tuple(_pair_rows(plan)), paths=2, rest=_rest_of_pair)
    if unconfirmed := tuple(_unconfirmed_rows(plan)):
        heading = "Not confirmed: no run of the models confirmed these pairs"
        named = ("torch", "keras", "other candidates")
        yield _Part(heading=heading, columns=named, rows=unconfirmed, paths=2, rest=_rest_of_unconfirmed)
    if plan.ignored:
        named, rows = ("tensor", "side", "reason"), tuple(_ignored_rows(plan))
        yield _Part(heading="Ignored", columns=named, rows=rows, paths=1, rest=": ".join)


def _rest_of_pair(cells: Sequence[str]) -> str:
    layer, decided, pairs, tensors = cells
    return f"{layer}, decided by {decided}, {count(int(pairs), 'pair')}, {count(int(tensors), 'tensor')}"


def _rest_of_unconfirmed(cells: Sequence[str]) -> str:
    return f"other candidates: {cells[0]}"


def _pair_rows(plan: Plan) -> Iterator[tuple[str, ...]]:
    paths = [(pair.torch, pair.keras) for pair in plan.pairs]
    keys = [(pair.rule, pair.decided_by, pair.unconfirmed, len(pair.weights)) for pair in plan.pairs]
    for line in collapse(paths, keys):
        pair = plan.pairs[line.places[0]]
        layer = pair.rule.rpartition(".")[2]
        tensors = sum(len(plan.pairs[place].weights) for place in line.places)
        yield *line.paths, layer, decision(pair), str(len(line.places)), str(tensors)


def decision(pair: Pair) -> str:
    """Return what decided a pair, for a table, with a mark for an unconfirmed pair: "definition order (?)"."""
    decided = pair.decided_by or "nothing"
    return f"{decided} (?)" if pair.unconfirmed else decided


def pairs_table(plan: Plan) -> Table:
    """Return the table of all pairs for a report; if some are not confirmed, with the other candidates of each."""
    columns: tuple[str, ...] = ("torch", "keras", "tensors", "decided by")
    rows: list[tuple[Cell, ...]] = [(pair.torch, pair.keras, len(pair.weights), decision(pair)) for pair in plan.pairs]
    if any(pair.unconfirmed for pair in plan.pairs):
        columns = (*columns, "other candidates")
        found = [_others(pair) if pair.unconfirmed else None for pair in plan.pairs]
        rows = [(*row, others) for row, others in zip(rows, found, strict=True)]
    return Table(title="pairs", columns=columns, rows=tuple(rows))


def _unconfirmed_rows(plan: Plan) -> Iterator[tuple[str, ...]]:
    pairs = [pair for pair in plan.pairs if pair.unconfirmed]
    rows = [(pair.torch, pair.keras, _others(pair)) for pair in pairs]
    for line in collapse(rows):
        yield (*line.paths[:3],)


def _others(pair: Pair) -> str:
    if pair.decided_by == "forced" and not pair.candidates:
        return "none, but the outputs of the two differ"
    if other_orders((pair,)):
        return "other orders of the rows"
    return ", ".join(pair.candidates) or _unknown_order(pair) or f"none were compared: {_decided(pair)}"


def _decided(pair: Pair) -> str:
    return f"paired by {pair.decided_by} alone" if pair.decided_by else "no evidence decides this pair"


def other_orders(pairs: Sequence[Pair]) -> tuple[str, ...]:
    """Return the calls of `plan.pair` that pair the packed layers of these pairs with their rows in another order."""
    return tuple(dict.fromkeys(line for pair in pairs for line in pair.candidates if line.startswith("plan = ")))


def _ignored_rows(plan: Plan) -> Iterator[tuple[str, ...]]:
    keys = [(entry.side, entry.reason) for entry in plan.ignored]
    for line in collapse([(entry.path,) for entry in plan.ignored], keys):
        entry = plan.ignored[line.places[0]]
        yield line.paths[0], entry.side, entry.reason
