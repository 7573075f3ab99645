"""Measure the speed of the package and of converted models against handwritten alternatives.

    python -m benchmarks speed                 the quick groups, under ten minutes on two cores
    python -m benchmarks speed --full          all groups, more rounds, also ONNX Runtime and torch.compile
    python -m benchmarks speed --only transfer --check

Every group runs in a separate process with one thread. Compared tasks run alternately; see `_paired`. With
--write the table in benchmarks/README.md is replaced; with --only, the rows of the measured groups.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks._paired import SPREAD, TOLERANCE, Ratio
from keras3conv.report.report import current_environment

FOLDER = Path(__file__).parent
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "TF_NUM_INTRAOP_THREADS")
QUICK, FULL = 7, 15
"""The numbers of rounds with and without `--full`."""

COLUMNS = ("group", "work", "beside", "processor time", "wall time", "spread", "ms", "target", "verdict")


@dataclass(frozen=True, kw_only=True)
class Group:
    """A group of speed ratios that are measured in one process.

    Attributes:
        name: The name of the group for `--only`.
        backend: The Keras backend of its process.
        network: The network that it measures; empty if the group defines its own.
        is_quick: Whether it runs without `--full`.
    """

    name: str
    backend: str = "torch"
    network: str = ""
    is_quick: bool = True

    @property
    def title(self) -> str:
        """The name with the backend and the network of the group."""
        return " ".join(part for part in (self.name, self.network or self.backend) if part)


NETWORKS = ("ResNet-18, 1 image", "50 dense layers", "transformer, 128 steps")
LARGER = ("ResNet-18, 8 images", "ResNet-50, 1 image", "ResNet-50, 8 images")

GROUPS = (
    *(Group(name="inference", network=network) for network in NETWORKS),
    *(Group(name="inference", network=network, is_quick=False) for network in LARGER),
    Group(name="to_torch", is_quick=False),
    Group(name="to_keras", is_quick=False),
    *(Group(name="transfer", backend=backend) for backend in ("torch", "jax", "tensorflow")),
    Group(name="planning"),
    Group(name="probe"),
    Group(name="convert", network="three convolutions"),
    Group(name="certificate", network="ResNet-50", is_quick=False),
    Group(name="checkpoint", network="ResNet-50", is_quick=False),
    Group(name="commands", network="ResNet-50", is_quick=False),
    Group(name="start"),
)


def measured_here(group: Group, rounds: int, *, full: bool) -> Iterator[Ratio]:
    """Run the measurements of a group in this process, and yield their ratios."""
    from benchmarks import _speed_commands as typed
    from benchmarks import _speed_groups as groups
    from benchmarks import _speed_ways as ways

    if group.name == "inference":
        return groups.inference(group.network, rounds, full=full)
    makers = {
        "to_torch": ways.to_torch,
        "to_keras": ways.to_keras,
        "transfer": groups.transfers,
        "planning": ways.plannings,
        "probe": groups.probes,
        "convert": ways.small_certificates,
        "certificate": ways.large_certificate,
        "checkpoint": ways.checkpoints,
        "commands": typed.commands,
        "start": groups.starts,
    }
    return makers[group.name](rounds)


def measured(group: Group, *, full: bool) -> list[Ratio]:
    """Measure a group in a separate process; raise `CalledProcessError` if the process fails."""
    environment = {**os.environ, **dict.fromkeys(THREADS, "1"), "KERAS_BACKEND": group.backend}
    environment |= {"TF_CPP_MIN_LOG_LEVEL": "3"}
    command = [sys.executable, "-m", "benchmarks", "speed", "--group", str(GROUPS.index(group))]
    done = subprocess.run(
        command + ["--full"] * full, env=environment, check=True, text=True, stdout=subprocess.PIPE, cwd=FOLDER.parent
    )
    rows = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    return [Ratio(**{name: value for name, value in row.items() if name != "verdict"}) for row in rows]


def cells(ratio: Ratio) -> tuple[str, ...]:
    """Return the cells of a row of the table."""
    return (
        ratio.group,
        ratio.name,
        ratio.reference,
        *(("", "", "") if ratio.missing else (f"{ratio.processor:.3g}", f"{ratio.wall:.3g}", f"{ratio.spread:.0%}")),
        f"{ratio.milliseconds:.3g}" if ratio.milliseconds else "",
        "" if ratio.target is None else f"{ratio.target:g}",
        ratio.verdict,
    )


def markdown(rows: Sequence[Sequence[str]]) -> str:
    """Return the machine and the table with these rows as Markdown."""
    known = current_environment()
    names = ("torch", "keras", "jax", "tensorflow", "onnxruntime")
    packages = ", ".join(f"{name} {known[name]}" for name in names if name in known)
    load = "/".join(f"{value:.1f}" for value in os.getloadavg())
    machine = f"{os.cpu_count()} processors ({platform.machine()}), load {load}, Python {platform.python_version()}"
    table = [COLUMNS, tuple("---" for _ in COLUMNS), *rows]
    return "\n".join([f"{machine}, {packages}.", "", *(f"| {' | '.join(row)} |" for row in table)])


def updated(table: str, rows: Sequence[Sequence[str]]) -> list[Sequence[str]]:
    """Return the rows of a Markdown table with the rows of some groups replaced, in place; a new group comes last.

    Args:
        table: The table.
        rows: The new rows; the first cell is the group.
    """
    lines = [line.strip("|").split("|") for line in table.splitlines() if line.startswith("|")]
    old = [[cell.strip() for cell in line] for line in lines[2:]]
    groups = dict.fromkeys(row[0] for row in (*old, *rows))
    measured = {row[0] for row in rows}
    return [row for group in groups for row in (rows if group in measured else old) if row[0] == group]


def section(name: str) -> str:
    """Return a section of benchmarks/README.md, as `written` replaces it."""
    text = (FOLDER / "README.md").read_text(encoding="utf-8")
    return text.partition(f"<!-- {name} -->\n")[2].partition(f"<!-- end of {name} -->")[0]


def written(name: str, text: str, page: str = "README.md") -> None:
    """Replace a section of a page of this folder, which is enclosed in two comments with its name."""
    path = FOLDER / page
    before, begin, rest = path.read_text(encoding="utf-8").partition(f"<!-- {name} -->\n")
    _, end, after = rest.partition(f"<!-- end of {name} -->")
    assert begin, f"{path} has no section {name}"
    assert end, f"the section {name} of {path} has no end"
    path.write_text(f"{before}{begin}{text}\n{end}{after}", encoding="utf-8")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", metavar="NAME", help="the groups whose title contains this")
    parser.add_argument("--full", action="store_true", help="all groups and more rounds")
    parser.add_argument("--list", action="store_true", help="print the titles and end")
    parser.add_argument("--json", type=Path, help="write the ratios here, one on each line")
    parser.add_argument("--write", action="store_true", help="replace the table in benchmarks/README.md")
    limit = f"exit with 1 if a ratio exceeds its target by more than {TOLERANCE - 1:.0%}"
    check = f"{limit}, or may do so because its spread is above {SPREAD:.0%}"
    parser.add_argument("--check", action="store_true", help=check.replace("%", "%%"))
    parser.add_argument("--group", type=int, help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> int:
    """Print the table; with --check a ratio that misses its target gives exit status 1."""
    options = _options()
    if options.group is not None:
        for found in measured_here(GROUPS[options.group], FULL if options.full else QUICK, full=options.full):
            print(json.dumps(found.row()), flush=True)
        return 0
    chosen = [group for group in GROUPS if group.is_quick or options.full or options.only]
    chosen = [group for group in chosen if not options.only or any(name in group.title for name in options.only)]
    if options.list:
        print(*(group.title for group in chosen), sep="\n")
        return 0
    ratios: list[Ratio] = []
    for group in chosen:
        for found in measured(group, full=options.full):
            ratios.append(found)
            print(" | ".join(cells(found)), flush=True)
    if options.json:
        options.json.write_text("".join(json.dumps(found.row()) + "\n" for found in ratios), encoding="utf-8")
    if options.write:
        rows = [cells(found) for found in ratios]
        written("speed", markdown(updated(section("speed"), rows) if options.only else rows))
    failed = [found for found in ratios if options.check and found.fails]
    for found in failed:
        print(f"behind its target: {' | '.join(cells(found))}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
