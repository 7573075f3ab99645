"""How well the planner aligns pairs of models of which the right alignment is known; no hints, random weights.

    KERAS_BACKEND=torch python -m benchmarks fidelity --check

One line a pair. "placed right" is proven: the converter of another project put the weights in place, and every variable
comes back bit for bit; or both models compute the same function in float64, under weights that hide nothing. Where the
two architectures differ, the certificate must name the difference, and without it they must compute the same.
"""

import argparse
import importlib
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path

from benchmarks._fidelity import Entry, Result, measure
from keras3conv.errors import Keras3ConvError

SOURCES = ("own", "text", "vision")
COLUMNS = ("pair", "tensors", "placed right", "how decided", "seconds", "float64 error", "x noise floor", "named")


def entries() -> list[Entry]:
    """Every pair whose packages are installed; one more is one more entry in a list of `_fidelity_*.py`."""
    modules = [importlib.import_module(f"benchmarks._fidelity_{source}") for source in SOURCES]
    return [entry for module in modules for entry in module.ENTRIES]


def judged(entry: Entry) -> Result:
    """The result of a pair; a failure of any of our functions is one too."""
    if missing := [package for package in entry.needs if find_spec(package) is None]:
        return Result(name=entry.name, misses=(f"not run: {', '.join(missing)} is not installed",))
    try:
        return measure(entry.name, entry.build())
    except Keras3ConvError as error:
        return Result(name=entry.name, misses=(f"{type(error).__name__}: {error}",))


def cells(result: Result) -> tuple[str, ...]:
    """A line of the table."""
    decided = ", ".join(f"{kind} {number}" for kind, number in result.decided.items())
    doubt = f" ({result.unconfirmed} not confirmed)" if result.unconfirmed else ""
    return (
        result.name,
        str(result.tensors),
        str(result.right),
        decided + doubt,
        f"{result.seconds:.1f}",
        "" if result.float64 is None else f"{result.float64:.1e}",
        "" if result.noise is None else f"{result.noise:.2g}",
        "; ".join(result.named),
    )


def markdown(results: Sequence[Result]) -> str:
    """The table in Markdown, and what falls short below it."""
    rows = [COLUMNS, tuple("---" for _ in COLUMNS), *map(cells, results)]
    lines = [f"| {' | '.join(row)} |" for row in rows]
    short = [f"- **{result.name}** falls short: {miss}" for result in results for miss in result.misses]
    return "\n".join([*lines, *(["", *short] if short else []), ""])


def main() -> None:
    """Prints a line for every pair as it is done; with --check a pair that falls short is exit status 1."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", metavar="NAME", help="this pair; may be given more than once")
    parser.add_argument("--list", action="store_true", help="print the names and end")
    parser.add_argument("--json", type=Path, help="write the results here")
    parser.add_argument("--markdown", type=Path, help="write the table here")
    parser.add_argument("--check", action="store_true", help="exit with 1 if a pair falls short")
    options = parser.parse_args()
    known = entries()
    if unknown := set(options.only or ()) - {entry.name for entry in known}:
        parser.error(f"no pair is called {', '.join(sorted(unknown))}; --list shows them")
    chosen = [entry for entry in known if not options.only or entry.name in options.only]
    if options.list:
        print(*(entry.name for entry in chosen), sep="\n")
        return
    results = []
    for entry in chosen:
        results.append(judged(entry))
        print(" | ".join(cells(results[-1])), flush=True)
        for miss in results[-1].misses:
            print(f"    falls short: {miss}", flush=True)
    if options.json:
        options.json.write_text(json.dumps([asdict(result) for result in results], indent=1), encoding="utf-8")
    if options.markdown:
        options.markdown.write_text(markdown(results), encoding="utf-8")
    sys.exit(1 if options.check and any(result.misses for result in results) else 0)


if __name__ == "__main__":
    main()
