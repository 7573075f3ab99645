"""Measure how processor time and memory grow with the number of layers and of values in a model.

    KERAS_BACKEND=torch python -m benchmarks scaling --check
    KERAS_BACKEND=torch python -m benchmarks scaling --full --write

The exponent is the slope of the least squares line through the logarithms: 1 is proportional growth. Sizes below the
bend, where a fixed cost dominates, would flatten it, so the smallest size of each row is left out. `plan` and `inspect`
need no framework and go up to 10,000 layers. Tasks that run a model stop at fewer layers: Keras builds a model of 1,000
layers with a recursion as deep as the model, for which this script raises Python's limit.
"""

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.speed import FOLDER, THREADS, written

LIMIT = 1.1
"""The largest accepted exponent."""

LAYERS = {
    "plan": (10, 100, 1_000, 10_000),
    "inspect": (10, 100, 1_000, 10_000),
    "align": (10, 100, 300, 1_000),
    "convert": (10, 100, 300, 1_000),
    "validate": (10, 30, 100, 300),
    "transfer": (10, 30, 100, 300),
}
VALUES = {"transfer of values": (100, 300, 1_000, 3_000), "inspect of values": (100, 300, 1_000, 3_000)}
"""The widths of the four square matrices."""

ROUNDS = 3

_PLOT = Path(__file__).parent / "SCALING.svg"

Row = dict[str, float]


def work_of(name: str, size: int, folder: Path) -> Callable[[], object]:
    """Return the function to measure for a task and a size."""
    if name == "plan":
        from benchmarks.bench_align import keras_layer, torch_layer
        from keras3conv.model.views import ModelView
        from keras3conv.planner.plan import plan

        torch_view = ModelView(side="torch", name="Synthetic", layers=tuple(map(torch_layer, range(size))))
        keras_view = ModelView(side="keras", name="synthetic", layers=tuple(map(keras_layer, range(size))))
        return lambda: plan(torch_view, keras_view).check()
    if name.startswith("inspect"):
        import numpy as np
        from safetensors.numpy import save_file

        from keras3conv import formats

        shape, number = ((size, size), 4) if name == "inspect of values" else ((4,), size)
        path = folder / f"{size}.safetensors"
        save_file({f"layer{place}.weight": np.zeros(shape, np.float32) for place in range(number)}, path)
        return lambda: formats.read(path).fingerprint
    return _work_of_models(name, size)


def _work_of_models(name: str, size: int) -> Callable[[], object]:
    import keras
    import torch

    import keras3conv as k3c

    sys.setrecursionlimit(100 * size + 10_000)
    width, number = (size, 4) if name == "transfer of values" else (4, size)
    module = torch.nn.Sequential(*(torch.nn.Linear(width, width) for _ in range(number)))
    inputs = x = keras.Input((width,))
    for _ in range(number):
        x = keras.layers.Dense(width)(x)
    model = keras.Model(inputs, x)
    given = torch.rand(2, width)
    if name == "align":
        return lambda: k3c.align(module, model, inputs=given)
    if name == "convert":
        return lambda: k3c.convert(model, validate=False)
    plan = k3c.align(module, model, probe=False)
    if name.startswith("transfer"):
        return lambda: k3c.transfer(module, model, plan)
    k3c.transfer(module, model, plan)
    return lambda: k3c.validate(module, model, inputs=given, plan=plan).raise_if_failed()


def measured_here(name: str, size: int) -> Row:
    """Return the shortest processor time of several rounds, and the memory that the first adds, in this process."""
    from benchmarks._memory import Growth

    with tempfile.TemporaryDirectory() as folder:
        work = work_of(name, size, Path(folder))
        found = math.inf
        with Growth() as growth:
            work()
        for _ in range(ROUNDS):
            start = time.process_time()
            work()
            found = min(found, time.process_time() - start)
    return {"size": size, "seconds": found, "megabytes": growth.bytes / 2**20}


def measured(name: str, size: int) -> Row:
    """Measure time and memory of one workload in a separate process with one thread."""
    environment = {**os.environ, **dict.fromkeys(THREADS, "1"), "KERAS_BACKEND": "torch", "TF_CPP_MIN_LOG_LEVEL": "3"}
    command = [sys.executable, "-m", "benchmarks", "scaling", "--here", name, str(size)]
    done = subprocess.run(command, env=environment, check=True, text=True, stdout=subprocess.PIPE, cwd=FOLDER.parent)
    row: Row = json.loads(done.stdout.splitlines()[-1])
    return row


def exponent(rows: Sequence[Row], of: str) -> float:
    """Return the slope of the line through the logarithms, without the first row; NaN if a value is zero."""
    points = [(math.log(row["size"]), math.log(row[of])) for row in rows[1:] if row[of] > 0]
    if len(points) < len(rows) - 1:
        return math.nan
    centre = [sum(point[axis] for point in points) / len(points) for axis in (0, 1)]
    above = sum((x - centre[0]) * (y - centre[1]) for x, y in points)
    return above / sum((x - centre[0]) ** 2 for x, _ in points)


def scale_of(name: str) -> float:
    """Return the factor that converts an exponent by width to one by model size, as values grow with the square."""
    return 0.5 if name.endswith("of values") else 1.0


def markdown(results: dict[str, list[Row]]) -> str:
    """Return the Markdown table: a row for each task, with its seconds at each size."""
    lines = [
        "| work | sizes | seconds | megabytes | exponent of time | of memory |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for name, rows in results.items():
        sizes = ", ".join(f"{row['size']:,.0f}" for row in rows)
        seconds = ", ".join(f"{row['seconds']:.3g}" for row in rows)
        memory = ", ".join(f"{row['megabytes']:.3g}" for row in rows)
        slopes = [exponent(rows, of) * scale_of(name) for of in ("seconds", "megabytes")]
        shown = ["" if math.isnan(slope) else f"{slope:.2f}" for slope in slopes]
        lines.append(f"| {name} | {sizes} | {seconds} | {memory} | {shown[0]} | {shown[1]} |")
    return "\n".join(lines)


_STYLE = """<style>
text { font: 13px system-ui, sans-serif; fill: #5f5b53; } .grid { stroke: #e2ded5; } rect { fill: #fff; }
.line { fill: none; stroke-width: 2; }
@media (prefers-color-scheme: dark) { text { fill: #b5b0a5; } .grid { stroke: #37352f; } rect { fill: #1e1e1b; } }
</style>"""


def drawing(results: dict[str, list[Row]]) -> str:
    """Return an SVG plot of seconds by size on logarithmic axes, with a labelled line for each task."""
    every = [row for rows in results.values() for row in rows]
    columns = _ends([row["size"] for row in every])
    lines = _ends([row["seconds"] for row in every])

    def place(row: Row) -> tuple[float, float]:
        across = (math.log10(row["size"]) - columns[0]) / (columns[1] - columns[0])
        up = (math.log10(row["seconds"]) - lines[0]) / (lines[1] - lines[0])
        return 80 + 500 * across, 360 - 340 * up

    parts = [
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 740 410" role="img">',
        f"<title>Seconds by the size of the model</title>{_STYLE}",
        '<rect width="740" height="410"/>',
    ]
    for power in range(columns[0], columns[1] + 1):
        x, _ = place({"size": 10.0**power, "seconds": 10.0 ** lines[0], "megabytes": 0.0})
        parts.append(f'<path class="grid" d="M{x:.1f} 20V360"/>')
        parts.append(f'<text x="{x:.1f}" y="380" text-anchor="middle">{10**power:,}</text>')
    for power in range(lines[0], lines[1] + 1):
        _, y = place({"size": 10.0 ** columns[0], "seconds": 10.0**power, "megabytes": 0.0})
        parts.append(f'<path class="grid" d="M80 {y:.1f}H580"/>')
        parts.append(f'<text x="72" y="{y + 4:.1f}" text-anchor="end">{10.0**power:g} s</text>')
    labels = _separated({name: place(rows[-1]) for name, rows in results.items()})
    for number, (name, rows) in enumerate(results.items()):
        colour = f"hsl({number * 360 // len(results)} 60% 50%)"
        points = " ".join(f"{x:.1f},{y:.1f}" for x, y in map(place, rows))
        x, y = labels[name]
        parts.append(f'<polyline class="line" stroke="{colour}" points="{points}"/>')
        parts.append(f'<text x="{x + 8:.1f}" y="{y + 4:.1f}" style="fill: {colour}">{name}</text>')
    parts.append('<text x="330" y="402" text-anchor="middle">layers, or the width of a layer ("of values")</text>')
    return "\n".join([*parts, "</svg>", ""])


def _separated(places: dict[str, tuple[float, float]], height: float = 15.0) -> dict[str, tuple[float, float]]:
    """Return the places of labels, each moved up as far as needed to leave the height of a line between labels."""
    found: dict[str, tuple[float, float]] = {}
    for name, (x, y) in sorted(places.items(), key=lambda entry: -entry[1][1]):
        near = [other for across, other in found.values() if abs(across - x) < 120]
        found[name] = x, min([y, *(other - height for other in near if other - height < y)])
    return found


def _ends(values: Sequence[float]) -> tuple[int, int]:
    """Return the powers of ten that enclose the values."""
    low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
    return low, max(high, low + 1)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", metavar="NAME", help="this work; may be given more than once")
    parser.add_argument("--full", action="store_true", help="the largest sizes too")
    parser.add_argument("--json", type=Path, help="write the rows here")
    parser.add_argument("--plot", type=Path, help="write a plot (SVG) here")
    parser.add_argument("--write", action="store_true", help="replace the table in benchmarks/README.md, and its plot")
    parser.add_argument("--check", action="store_true", help=f"exit with 1 if an exponent of time exceeds {LIMIT}")
    parser.add_argument("--here", nargs=2, help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> int:
    """Print the table; with --check an exponent above the limit gives exit status 1."""
    options = _options()
    if options.here:
        print(json.dumps(measured_here(options.here[0], int(options.here[1]))))
        return 0
    found: dict[str, list[Row]] = {}
    for name, sizes in (LAYERS | VALUES).items():
        if options.only is None or name in options.only:
            chosen = sizes if options.full or name in ("plan", "inspect") else sizes[:-1]
            found[name] = [measured(name, size) for size in chosen]
            print(markdown({name: found[name]}).splitlines()[-1], flush=True)
    if options.json:
        options.json.write_text(json.dumps(found, indent=1), encoding="utf-8")
    if options.plot:
        options.plot.write_text(drawing(found), encoding="utf-8")
    if options.write:
        written("scaling", markdown(found))
        _PLOT.write_text(drawing(found), encoding="utf-8")
    slopes = (exponent(rows, "seconds") * scale_of(name) for name, rows in found.items())
    return 1 if options.check and any(slope > LIMIT for slope in slopes) else 0


if __name__ == "__main__":
    sys.exit(main())
