"""Measure the time and memory of file-to-file transfers against raw copies and against building a model.

    python -m benchmarks bench_files --check
    python -m benchmarks bench_files --only speed reverse --rounds 9 --json result.json
    python -m benchmarks bench_files --only sparse --gigabytes 64

All methods are timed one after the other in every round, and a ratio compares times of the same round. The median of
the ratios over the rounds is printed, of wall time and of processor time, with the spread of the former. The raw
reference reads the same tensors with `safetensors` and writes the same bytes with h5py, with the names that Keras
writes, without transposing anything. The transfer of this package is measured in steps: streaming alone; flushed to
disk; also read again and compared; with both digests; and `transfer`, which also computes the digests of the source and
writes the manifest, a JSON file that says how the output was made.
"""

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict, fields
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks._files_headers import inspected, refused
from benchmarks._files_memory import memory, sparse
from benchmarks._files_models import FIXTURES, KINDS, Fixture
from benchmarks._files_times import Result, compared, in_turns
from benchmarks.speed import written
from keras3conv import formats
from keras3conv.alignment.plan import Alignment
from keras3conv.formats.store import Checks
from keras3conv.transforms import Axes
from keras3conv.workflows.transfer import Options, transfer

STEPS: dict[str, tuple[bool, Checks]] = {
    "ours: streaming": (False, Checks(reread=False, digests=False)),
    "ours: + flush": (True, Checks(reread=False, digests=False)),
    "ours: + read again": (True, Checks(reread=True, digests=False)),
    "ours: + digests": (True, Checks()),
}
"""For each step, whether files are flushed to disk, and the further checks."""


def _ours(source: Path, out: Path, plan: Alignment, step: tuple[bool, Checks], side: str) -> None:
    """Stream a file to a file, as `transfer` does with a plan."""
    view, target = formats.read(source), plan.keras if side == "keras" else plan.torch
    tensors = tuple(target.tensors())
    sources = {pair.weights[0].names(side)[0]: pair.weights[0] for pair in plan.pairs}  # type: ignore[arg-type]
    other, planned = ("torch", plan.torch) if side == "keras" else ("keras", plan.keras)
    # A Keras weight file stores the locations of the variables, not their names.
    names = {tensor.location: tensor.path for tensor in view.tensors()}
    held = {tensor.path: names[tensor.location] for tensor in planned.tensors()}

    def read(path: str) -> Any:
        mapping = sources[path]
        transform = mapping.transform if side == "keras" else mapping.transform.inverse
        return transform((view.read(held[mapping.names(other)[0]]),))[0]  # type: ignore[arg-type]

    flush, checks = step
    with nullcontext() if flush else patch("os.fsync"):
        formats.write(out, tensors, read, overwrite=True, checks=checks)


def _raw_h5(source: Path, out: Path, *, flush: bool = False) -> None:
    """Read every tensor and write the same bytes with h5py in the layout of a Keras file, without transposing."""
    import h5py
    from safetensors import safe_open

    with safe_open(source, "np") as reader, h5py.File(out, "w") as file:
        for place, name in enumerate(reader.keys()):
            group = f"layers/dense_{place}" if place else "layers/dense"
            values = file.create_group(f"{group}/vars")
            values.attrs["name"] = f"l{place}"
            values.create_dataset("0", data=reader.get_tensor(name))
    if flush:
        _flush(out)


def _raw_safetensors(source: Path, out: Path, *, flush: bool = False) -> None:
    """Read every dataset with h5py and save the same bytes with safetensors, without transposing."""
    import h5py
    from safetensors.numpy import save_file

    found: dict[str, Any] = {}
    with h5py.File(source) as file:
        file["layers"].visititems(
            lambda name, node: found.__setitem__(name, node[...]) if isinstance(node, h5py.Dataset) else None
        )
    save_file(found, out)
    if flush:
        _flush(out)


def _raw_legacy(source: Path, out: Path) -> None:
    """Read every tensor and write the same bytes with h5py in the layout of a file of Keras 2."""
    import h5py
    from safetensors import safe_open

    with safe_open(source, "np") as reader, h5py.File(out, "w") as file:
        for place, name in enumerate(reader.keys()):
            group = file.create_group(f"l{place}")
            group.attrs["weight_names"] = [f"l{place}/kernel".encode()]
            group.create_dataset(f"l{place}/kernel", data=reader.get_tensor(name))


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)


def _by_model(source: Path, out: Path, fixture: Fixture) -> None:
    """Build the Keras model, set its weights and save them, as converters with the model's code do."""
    import keras
    from safetensors import safe_open

    keras.utils.clear_session()
    model = fixture.keras_model()
    with safe_open(source, "np") as reader:
        for place, shape in enumerate(fixture.shapes):
            order = Axes(KINDS[len(shape)])
            value = order((reader.get_tensor(f"layers.{place}.weight"),))[0]
            model.get_layer(f"l{place}").set_weights([value])
    model.save_weights(out)


def _transfer(source: Path, out: Path, plan: Alignment) -> None:
    transfer(source, out, plan, Options(overwrite=True))


def _outputs(folder: Path) -> list[Path]:
    """Return the files that the methods write into a folder; they may not exist."""
    names = ("raw.h5", "raw.safetensors", "legacy.h5", "model.weights.h5", "out.weights.h5", "out.safetensors")
    return [folder / f"{name}{end}" for name in (*names, "out.h5") for end in ("", formats.MANIFEST)]


def speed(folder: Path, rounds: int) -> list[Result]:
    """Compare methods for transfers from .safetensors to .weights.h5."""
    results = []
    for fixture in FIXTURES:
        source, out = folder / "in.safetensors", folder / "out.weights.h5"
        fixture.save(source)
        plan = fixture.plan()
        ways: dict[str, Callable[[], object]] = {
            "raw h5py": partial(_raw_h5, source, folder / "raw.h5"),
            "raw h5py + flush": partial(_raw_h5, source, folder / "raw.h5", flush=True),
            "build model + save_weights": partial(_by_model, source, folder / "model.weights.h5", fixture),
        }
        ways |= {name: partial(_ours, source, out, plan, step, "keras") for name, step in STEPS.items()}
        ways["transfer"] = partial(_transfer, source, out, plan)
        times = in_turns(ways, rounds, outputs=_outputs(folder))
        results += compared(f"to Keras, {fixture.name}", times, "raw h5py", {"ours: streaming": 1.3})
        by_model = "build model + save_weights"
        durable = {name: times[name] for name in (*STEPS, "transfer", "raw h5py + flush")}
        results += compared(f"to Keras, {fixture.name}", durable, "raw h5py + flush", {"ours: + flush": 1.25})
        several = {name: times[name] for name in ("ours: streaming", "ours: + digests", "transfer", by_model)}
        limits = {"ours: streaming": 0.4, "transfer": 0.4}
        results += compared(f"to Keras, {fixture.name}", several, by_model, limits)
    return results


def reverse(folder: Path, rounds: int) -> list[Result]:
    """Compare methods for transfers from .weights.h5 to .safetensors."""
    results = []
    for fixture in FIXTURES:
        first, source, out = folder / "in.safetensors", folder / "in.weights.h5", folder / "out.safetensors"
        fixture.save(first)
        plan = fixture.plan()
        _ours(first, source, plan, STEPS["ours: streaming"], "keras")
        ways: dict[str, Callable[[], object]] = {
            "raw save_file": partial(_raw_safetensors, source, folder / "raw.safetensors"),
            "raw save_file + flush": partial(_raw_safetensors, source, folder / "raw.safetensors", flush=True),
        }
        ways |= {name: partial(_ours, source, out, plan, step, "torch") for name, step in STEPS.items()}
        times = in_turns(ways, rounds, outputs=_outputs(folder))
        results += compared(f"to torch, {fixture.name}", times, "raw save_file", {"ours: streaming": 1.3})
        durable = {name: times[name] for name in (*STEPS, "raw save_file + flush")}
        results += compared(f"to torch, {fixture.name}", durable, "raw save_file + flush", {"ours: + flush": 1.25})
    return results


def many(folder: Path, rounds: int, number: int = 100_000) -> list[Result]:
    """Compare methods for many small tensors, where a loop of h5py that makes as many datasets is the floor."""
    fixture, fewer = (Fixture(f"{count:,} x 16", ((16,),) * count) for count in (number, number // 5))
    source, keras, few = folder / "in.safetensors", folder / "in.weights.h5", folder / "few.safetensors"
    fixture.save(source)
    fewer.save(few)
    plan, plan_of_few, step = fixture.plan(), fewer.plan(), STEPS["ours: streaming"]
    _ours(few, keras, plan_of_few, step, "keras")
    out, back, legacy = folder / "out.weights.h5", folder / "out.safetensors", folder / "out.h5"
    parts: dict[str, dict[str, Callable[[], object]]] = {
        f"to Keras, {fixture.name}": {
            "raw h5py": partial(_raw_h5, source, folder / "raw.h5"),
            "ours: streaming": partial(_ours, source, out, plan, step, "keras"),
            "transfer": partial(_transfer, source, out, plan),
        },
        f"to torch, {fewer.name}": {
            "raw save_file": partial(_raw_safetensors, keras, folder / "raw.safetensors"),
            "ours: streaming": partial(_ours, keras, back, plan_of_few, step, "torch"),
        },
        f"to a legacy file, {fewer.name}": {
            "raw h5py": partial(_raw_legacy, few, folder / "legacy.h5"),
            "ours: streaming": partial(_ours, few, legacy, plan_of_few, step, "keras"),
        },
    }
    results = []
    for part, ways in parts.items():
        times = in_turns(ways, max(1, rounds // 4), outputs=_outputs(folder), warm_up=False)
        results += compared(part, times, next(iter(ways)), {"ours: streaming": 1.2})
    return results


_FIELDS = tuple(one.name for one in fields(Result))

PARTS: dict[str, Callable[[Path, int], list[Result]]] = {
    "speed": speed,
    "reverse": reverse,
    "many": many,
    "memory": memory,
    "sparse": sparse,
    "inspect": inspected,
    "refuse": refused,
}


COLUMNS = ("measured", "way", "wall time", "spread", "processor time", "at most", "seconds", "")


def _row(one: Result) -> tuple[str, ...]:
    """Return the cells of a row of the table; a number in another unit stands below "wall time"."""
    limit = "" if one.limit is None else f"{one.limit:g}"
    seconds = f"{one.seconds:.2f}" if one.seconds else ""
    more = (f"{one.spread:.0%}", f"{one.processor:.3g}") if one.processor else ("", "")
    return one.part, one.way, f"{one.ratio:.3g}", *more, limit, seconds, one.verdict


def _machine() -> str:
    return f"{os.cpu_count()} processors, numpy {np.__version__}"


def show(results: list[Result]) -> None:
    """Print the table."""
    table = Table(*COLUMNS)
    for one in results:
        table.add_row(*_row(one))
    Console(width=None if sys.stdout.isatty() else 150).print(table)
    Console().print(_machine())


def markdown(results: list[Result]) -> str:
    """The table of FILES.md."""
    lines = [
        f"{_machine()}.",
        "",
        f"| {' | '.join(COLUMNS).rstrip()} |",
        f"|{' --- |' * len(COLUMNS)}",
    ]
    return "\n".join([*lines, *(f"| {' | '.join(_row(one))} |" for one in results)])


def main() -> int:
    """Measure, print, write; return 1 if `--check` is given and a target is missed."""
    parser = argparse.ArgumentParser(prog="bench_files", description="Weights from file to file.")
    parser.add_argument("--only", nargs="+", choices=[*PARTS], default=[part for part in PARTS if part != "sparse"])
    parser.add_argument("--rounds", type=int, default=7, help="how often each method is timed (default: 7)")
    parser.add_argument(
        "--gigabytes", type=int, default=8, help="the size of the sparse checkpoint; the output is not sparse"
    )
    parser.add_argument("--folder", type=Path, help="where the files are written; a temporary folder by default")
    parser.add_argument("--json", type=Path, help="write the results here")
    parser.add_argument("--read", type=Path, nargs="+", help="show results that --json wrote, and measure nothing")
    parser.add_argument("--write", action="store_true", help="replace the table in benchmarks/FILES.md")
    parser.add_argument("--check", action="store_true", help="exit with 1 if a target is missed")
    options = parser.parse_args()
    results: list[Result] = []
    for path in options.read or ():
        found = json.loads(path.read_text())
        results += [Result(**{key: value for key, value in one.items() if key in _FIELDS}) for one in found]
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        for part in () if options.read else options.only:
            run = partial(sparse, gigabytes=options.gigabytes) if part == "sparse" else PARTS[part]
            results += run(Path(folder), options.rounds)
    show(results)
    if options.write:
        written("files", markdown(results), "FILES.md")
    if options.json:
        options.json.write_text(json.dumps([asdict(one) | {"met": one.met} for one in results], indent=1))
    return int(options.check and not all(one.met for one in results))


if __name__ == "__main__":
    sys.exit(main())
