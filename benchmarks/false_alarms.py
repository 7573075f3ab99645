"""Count the false alarms of `validate` on correct pairs of models: every example of every rule, and whole networks.

    python -m benchmarks false_alarms --check [--align]

The pairs are correct by construction, so every problem that `validate` reports is a false alarm. The plan of an example
follows from its rule, so that only `validate` is tested. With --align the planner is tested, too: `align` makes
the plan, by which the weights are transferred. A pair whose plan has problems is listed as well.
"""

import argparse
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

import keras3conv as k3c
from benchmarks._fidelity_own import ENTRIES
from keras3conv.errors import Keras3ConvError
from keras3conv.report.report import Report
from keras3conv.rules.library import find, list_rules
from tests.support.pairs import make_pair

OWN = {entry.name: entry.build for entry in ENTRIES}
"""Handwritten networks with branches, shared layers, several inputs and outputs; the probe pairs them in both modes."""


def cases(wanted: str) -> list[tuple[str, int]]:
    """Return the name of each rule that contains `wanted`, with the index of each of its examples."""
    return [(rule.name, place) for rule in list_rules() if wanted in rule.name for place in range(len(rule.examples))]


def judge(name: str, place: int, *, align: bool = False) -> str:
    """Return the problems that `validate` reports for an example of a rule; empty if there are none.

    Args:
        name: The name of the rule.
        place: Which of its examples.
        align: Whether `align` makes the plan of the two models; otherwise it follows from the rule.
    """
    try:
        pair = make_pair(find(name), place)
        if align:
            plan = k3c.align(pair.torch, pair.keras, inputs=pair.inputs, keras_inputs=pair.keras_inputs)
            if not plan.problems():
                k3c.transfer(pair.torch, pair.keras, plan, accept_difference=True)
            pair = replace(pair, plan=plan)
        return _found(pair.certificate())
    except Keras3ConvError as error:
        return f"{type(error).__name__}: {error}"


def judge_own(name: str) -> str:
    """Return the problems that `validate` reports for a handwritten network; empty if there are none."""
    pair = OWN[name]()
    given = {"inputs": pair.inputs, "keras_inputs": pair.keras_inputs}
    try:
        plan = k3c.align(pair.torch, pair.keras, **given)
        for path, reason in pair.without.items():
            plan = plan.ignore(path, reason, side="torch")
        if not plan.problems():
            k3c.transfer(pair.torch, pair.keras, plan, accept_difference=True)
        return _found(k3c.validate(pair.torch, pair.keras, plan=plan, **given))
    except Keras3ConvError as error:
        return f"{type(error).__name__}: {error}"


def _found(report: Report) -> str:
    if report.section("structure").status == "failed":
        return f"no plan: {report.section('structure').problems[0].fact}"
    failed = report.with_status("failed")
    return "; ".join(f"{section.name}: {section.problems[0].fact}" for section in failed)


def verdicts(wanted: str, *, align: bool) -> Iterator[tuple[str, str]]:
    """Yield every pair whose name contains a text, with the reported problems."""
    for name, place in cases(wanted):
        yield f"{name} {place}", judge(name, place, align=align)
    for name in OWN:
        if wanted in name:
            yield name, judge_own(name)


def main() -> None:
    """Print every reported problem; with --check a problem gives exit status 1."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", metavar="TEXT", help="pairs whose names contain this")
    parser.add_argument("--align", action="store_true", help="align the examples by the probe, not by their rules")
    parser.add_argument("--check", action="store_true", help="exit with 1 if there is a false alarm")
    options = parser.parse_args()
    start, tally = time.perf_counter(), Counter[str]()
    for name, found in verdicts(options.only, align=options.align):
        kind = "without a plan" if found.startswith("no plan") else "false alarm" if found else "nothing found"
        tally[kind] += 1
        if found:
            print(f"{kind}: {name}: {found}", flush=True)
    seconds = time.perf_counter() - start
    print(f"{tally.total()} pairs in {seconds:.0f} s: {', '.join(f'{n} {kind}' for kind, n in tally.items())}")
    sys.exit(1 if options.check and tally["nothing found"] < tally.total() else 0)


if __name__ == "__main__":
    main()
