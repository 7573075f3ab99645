"""False alarms: every example of every rule as a pair of models, each judged by the whole certificate.

    python -m benchmarks false_alarms --check

The pairs are correct by construction, so whatever a certificate finds in one is a false alarm. A pair whose plan has
problems is listed as well: the planner could not place a tensor, which is no proof's mistake.
"""

import argparse
import sys
import time
from collections import Counter

from keras3conv.errors import Keras3ConvError
from keras3conv.rule import find, rules
from tests.pairs import make_pair


def cases(wanted: str) -> list[tuple[str, int]]:
    """The examples of all rules whose names contain a text."""
    return [(rule.name, place) for rule in rules() if wanted in rule.name for place in range(len(rule.examples))]


def judge(name: str, place: int) -> str:
    """What the certificate of a pair finds, in words; empty if nothing."""
    try:
        report = make_pair(find(name), place).certificate()
    except Keras3ConvError as error:
        return f"{type(error).__name__}: {error}"
    if report.section("structure").status == "failed":
        return f"no plan: {report.section('structure').problems[0].fact}"
    failed = report.with_status("failed")
    return "; ".join(f"{section.name}: {section.problems[0].fact}" for section in failed)


def main() -> None:
    """Prints every finding; with --check one of them is exit status 1."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", metavar="TEXT", help="rules whose names contain this")
    parser.add_argument("--check", action="store_true", help="exit with 1 if there is a false alarm")
    options = parser.parse_args()
    start, tally = time.perf_counter(), Counter[str]()
    for name, place in cases(options.only):
        found = judge(name, place)
        kind = "without a plan" if found.startswith("no plan") else "false alarm" if found else "nothing found"
        tally[kind] += 1
        if found:
            print(f"{kind}: {name} {place}: {found}", flush=True)
    seconds = time.perf_counter() - start
    print(f"{tally.total()} pairs in {seconds:.0f} s: {', '.join(f'{n} {kind}' for kind, n in tally.items())}")
    sys.exit(1 if options.check and tally["nothing found"] < tally.total() else 0)


if __name__ == "__main__":
    main()
