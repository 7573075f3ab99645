"""Run a sweep of a hundred models with ten planted failures, kill and resume it; measure the overhead of a sweep."""

import argparse
import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.speed import written

MODELS = "benchmarks._sweep_models"
PLANTED = {
    "leaves_without_a_word": "crashed",
    "aborts": "crashed",
    "reads_nowhere": "crashed",
    "kills_itself": "out of memory",
    "never_ends": "timed out",
    "grows": "out of memory",
    "raises": "unusable",
    "reads_a_missing_file": "unusable",
    "is_no_model": "unusable",
    "wrong_weights": "failed",
}
"""The planted failures, each with the required status."""


def main() -> None:
    """Run one of the two measurements, "hundred" or "overhead"."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("hundred", "overhead"))
    parser.add_argument("--folder", type=Path, default=Path("sweep-benchmark"))
    parser.add_argument("--tasks", type=int, default=0, help="the number of tasks; by default 110, or 50")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--write", action="store_true", help="replace the table in benchmarks/SWEEP.md")
    options = parser.parse_args()
    options.folder.mkdir(exist_ok=True)
    run = hundred if options.what == "hundred" else overhead
    sys.exit(run(options.folder.resolve(), options.tasks, options.jobs, write=options.write))


def hundred(folder: Path, number: int, jobs: int, *, write: bool) -> int:
    """Start a sweep, kill it halfway, resume it, and check the table."""
    tasks = saved_sweep(folder, list(planned(folder, number or 110)))
    results = folder / "results"
    command = swept(folder, jobs)
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    while len(rows_of(results)) < tasks // 2 and process.poll() is None:
        time.sleep(0.2)
    process.send_signal(signal.SIGKILL)
    process.wait()
    before = {row["name"]: row for row in rows_of(results)}
    status = subprocess.run(command, stdout=subprocess.DEVNULL, check=False).returncode
    after = {row["name"]: row for row in rows_of(results)}
    repeated = [name for name, row in before.items() if after.get(name) != row]
    wrong = {name: after[name]["status"] for name, expected in PLANTED.items() if after[name]["status"] != expected}
    others = {name: row["outcome"] for name, row in after.items() if row["status"] != "passed" and name not in PLANTED}
    for name, outcome in others.items():
        print(f"{name}: {outcome}")
    report("hundred", survived(tasks, before, after), write=write)
    return int(len(after) != tasks or bool(repeated) or bool(wrong) or status != 1)


def survived(tasks: int, before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, str]:
    """Return what a sweep survived: the rows when it was killed, and the rows at the end, by name."""
    kinds = Counter(name.partition("_")[0] for name in after if name not in PLANTED)
    libraries = len(after) - len(PLANTED) - kinds["rule"] - kinds["app"]
    repeated = sum(after.get(name) != row for name, row in before.items())
    expected = sum(after[name]["status"] == status for name, status in PLANTED.items())
    passed = sum(row["status"] == "passed" for name, row in after.items() if name not in PLANTED)
    return {
        "tasks: examples of rules, keras.applications, transformers beside keras-hub, planted failures": (
            f"{kinds['rule']}, {kinds['app']}, {libraries}, {len(PLANTED)}"
        ),
        "tasks with a row at the end": f"{len(after)} of {tasks}",
        "finished when the sweep was killed, of which the second start repeated": f"{len(before)}, {repeated}",
        f"planted failures with the expected status: {', '.join(PLANTED)}": f"{expected} of {len(PLANTED)}",
        "other tasks that passed": f"{passed} of {len(after) - len(PLANTED)}",
        "seconds of all tasks": f"{sum(row['seconds'] for row in after.values()):.0f}",
    }


def report(section: str, rows: Mapping[str, str], *, write: bool) -> None:
    """Print a table, and write it to a section of SWEEP.md."""
    text = "\n".join(["| | |", "| --- | --- |", *(f"| {name} | {value} |" for name, value in rows.items())])
    print(text)
    if write:
        written(section, text, "SWEEP.md")


def planned(folder: Path, number: int) -> Iterator[dict[str, Any]]:
    """Yield the tasks: planted failures, library models, and examples of rules up to the number."""
    from benchmarks._fidelity_text import ENTRIES
    from benchmarks._sweep_models import APPLICATIONS, pair_of, planted_place
    from keras3conv.rules.library import list_rules

    # The heads and outputs of the two sides differ, so only the weights are compared, as in `fidelity`.
    shared = {"do": ["align", "transfer"], "write": ["net.safetensors"]}
    limits: dict[str, dict[str, Any]] = {"never_ends": {"time_limit": 20}, "grows": {"memory_limit": "2 GiB"}}
    for name in PLANTED:
        if name != "wrong_weights":
            yield {"name": name, "model": f"{MODELS}:{name}", **limits.get(name, {})}
    spoiled = {**saved(folder, "rule", planted_place()), "keras": f"{MODELS}:wrong_weights"}
    yield {"name": "wrong_weights", **spoiled}
    made = len(PLANTED)
    for place in range(len(APPLICATIONS)):
        yield {"name": f"app_{place}", "model": f"{MODELS}:app_{place}"}
        made += 1
    for place in range(0, len(ENTRIES), max(1, len(ENTRIES) // 6)):
        yield {"name": ENTRIES[place].name, **saved(folder, "text", place), **shared}
        made += 1
    for place in range(len(list_rules())):
        if made == number:
            return
        if len(pair_of("rule", place).inputs) == 1:
            yield {"name": f"rule_{place}", **saved(folder, "rule", place), "do": ["validate"]}
            made += 1


def saved(folder: Path, kind: str, place: int) -> dict[str, str]:
    """Save the inputs of a pair, and its plan if it is known; return the entries for its task in the sweep file."""
    from benchmarks._sweep_models import pair_of

    pair = pair_of(kind, place)
    keys = {side: f"{MODELS}:{kind}_{place}_{side}" for side in ("torch", "keras")}
    for key in ("inputs", "keras_inputs"):
        value = getattr(pair, key)
        if value is None:
            continue
        path = folder / f"{kind}_{place}_{key}.npz"
        arrays = value if isinstance(value, dict) else {}
        single = value[0] if isinstance(value, tuple | list) else value
        np.savez(path, **arrays) if arrays else np.savez(path, single)
        keys[key] = path.name
    if kind == "rule":
        (folder / f"{kind}_{place}.json").write_text(pair.plan.to_json())
        keys["plan"] = f"{kind}_{place}.json"
    return keys


def saved_sweep(folder: Path, tasks: Sequence[dict[str, Any]]) -> int:
    """Write the sweep file; its TOML values are written as JSON."""
    lines = ['[sweep]\nname = "benchmark"\n']
    for task in tasks:
        lines += ["\n[[task]]\n", *(f"{key} = {json.dumps(value)}\n" for key, value in task.items())]
    (folder / "sweep.toml").write_text("".join(lines))
    return len(tasks)


def swept(folder: Path, jobs: int) -> list[str]:
    """Return the command that runs the sweep of a folder."""
    command = [sys.executable, "-m", "keras3conv", "sweep", str(folder / "sweep.toml")]
    return [*command, "-o", str(folder / "results"), "--jobs", str(jobs)]


def rows_of(results: Path) -> list[dict[str, Any]]:
    """Return the complete rows in the file of results, which a sweep may be writing."""
    path = results / "results.jsonl"
    text = path.read_text() if path.exists() else ""
    return [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]


def overhead(folder: Path, number: int, jobs: int, *, write: bool) -> int:
    """Compare the time of the same conversions as a sweep and as parallel single commands."""
    import keras

    path = folder / "small.keras"
    keras.Sequential([keras.Input((6,)), keras.layers.Dense(4, "relu"), keras.layers.Dense(3)]).save(path)
    number = number or 50
    saved_sweep(folder, [{"name": f"t{place}", "model": path.name} for place in range(number)])

    def single(place: int) -> None:
        command = [sys.executable, "-m", "keras3conv", "convert", str(path), "-o", str(folder / f"single{place}")]
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}  # with the same environment as the tasks of a sweep
        subprocess.run([*command, "--overwrite"], check=True, env=environment, **quiet)  # type: ignore[call-overload]

    began = spent()
    with ThreadPoolExecutor(jobs) as pool:
        list(pool.map(single, range(number)))
    between = spent()
    subprocess.run(swept(folder, jobs), check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    ended = spent()
    rows = {"tasks, and how many at a time": f"{number}, {jobs}"}
    for name, place in (("wall", 0), ("processor", 1)):
        commands, one = between[place] - began[place], ended[place] - between[place]
        rows[f"{name} time of the commands, of the sweep"] = f"{commands:.1f} s, {one:.1f} s: {one / commands:.2f} x"
    report("overhead", rows, write=write)
    return int(ended[1] - between[1] > 1.3 * (between[1] - began[1]))


def spent() -> tuple[float, float]:
    """Return the wall time and the processor time of all ended child processes."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.monotonic(), used.ru_utime + used.ru_stime


if __name__ == "__main__":
    main()
