"""Measure the time of planning and its growth with the number of layers: synthetic models, no framework, no run.

    python -m benchmarks bench_align --check

Every model has six kinds of layers, many of each shape, so that nearly every pair is decided by call order. The
reference time of each row is that of reading the names and shapes once: planning cannot be faster.
"""

import argparse
import json
import math
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from keras3conv.model.views import LayerRun, LayerView, ModelView, TensorRef
from keras3conv.planner.plan import plan

SIZES = (1_000, 3_000, 10_000, 50_000)
"""Numbers of layers; each has two tensors on each side, so the last is 100,000 tensors a side."""

LIMITS = {10_000: 2.0, 50_000: 20.0}
"""Seconds that planning for so many layers may take on two cores."""

EXPONENT = 1.2
"""The largest exponent of the growth, from the second size to the last: seconds ~ layers ** exponent."""

ROUNDS = 3


def torch_layer(place: int) -> LayerView:
    """Return a torch linear layer with one of six shapes."""
    inputs, outputs = 4 + place % 2, 4 + place % 3
    path = f"blocks.{place // 6}.part{place % 6}"
    return LayerView(
        path=path,
        kinds=("torch.nn.Linear",),
        config={"in_features": inputs, "out_features": outputs, "bias": True},
        tensors=(
            TensorRef(path=f"{path}.weight", role="weight", shape=(outputs, inputs)),
            TensorRef(path=f"{path}.bias", role="bias", shape=(outputs,)),
        ),
        run=LayerRun(calls=(place,)),
    )


def keras_layer(place: int) -> LayerView:
    """Return the Keras layer that corresponds to `torch_layer(place)`, under another name."""
    inputs, outputs = 4 + place % 2, 4 + place % 3
    path = f"stage_{place // 6 + 1}/dense_{place % 6}"
    return LayerView(
        path=path,
        kinds=("keras.layers.Dense",),
        config={"units": outputs, "use_bias": True},
        tensors=(
            TensorRef(path=f"{path}/kernel", role="kernel", shape=(inputs, outputs)),
            TensorRef(path=f"{path}/bias", role="bias", shape=(outputs,)),
        ),
        run=LayerRun(calls=(place,)),
    )


def seconds(work: Callable[[], object]) -> float:
    """Return the shortest time of several rounds; the longer ones were disturbed by other load."""
    found = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        work()
        found.append(time.perf_counter() - start)
    return min(found)


def measure(layers: int) -> dict[str, Any]:
    """Plan a pair of models with this number of layers, and check that every pair is right."""
    torch = ModelView(side="torch", name="Synthetic", layers=tuple(map(torch_layer, range(layers))))
    keras = ModelView(side="keras", name="synthetic", layers=tuple(map(keras_layer, range(layers))))
    made = plan(torch, keras).check()
    wanted = {torch_layer(place).path: keras_layer(place).path for place in range(layers)}
    right = sum(wanted[pair.torch] == pair.keras for pair in made.pairs)
    reading = seconds(lambda: (torch.fingerprint, keras.fingerprint))
    planning = seconds(lambda: plan(torch, keras))
    return {
        "layers": layers,
        "tensors a side": 2 * layers,
        "right": right,
        "seconds": planning,
        "microseconds a tensor": 1e6 * planning / (4 * layers),
        "times reading the names": planning / reading,
    }


def exponent(rows: list[dict[str, Any]]) -> float:
    """Return the slope between the second size and the last on a log-log scale; the first one is a warm-up."""
    first, last = rows[1], rows[-1]
    return math.log(last["seconds"] / first["seconds"]) / math.log(last["layers"] / first["layers"])


def failures(rows: list[dict[str, Any]], steepness: float) -> list[str]:
    """Return a sentence for each missed limit."""
    found = [
        f"{row['layers']:,} layers took {row['seconds']:.2f} s, the limit is {LIMITS[row['layers']]} s"
        for row in rows
        if row["seconds"] > LIMITS.get(row["layers"], math.inf)
    ]
    found += [f"{row['layers'] - row['right']} pairs are wrong" for row in rows if row["right"] != row["layers"]]
    return found + ([f"the exponent is {steepness:.2f}, the limit is {EXPONENT}"] if steepness > EXPONENT else [])


def main() -> None:
    """Print the table; write it with --json; with --check a missed limit gives exit status 1."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="write the rows here")
    parser.add_argument("--check", action="store_true", help="exit with 1 if a limit is missed")
    options = parser.parse_args()
    rows = [measure(layers) for layers in SIZES]
    steepness = exponent(rows)
    sys.stdout.write(_table(rows, steepness))
    if options.json:
        options.json.write_text(json.dumps({"rows": rows, "exponent": steepness}, indent=1))
    missed = failures(rows, steepness)
    sys.stdout.write("".join(f"missed: {line}\n" for line in missed))
    sys.exit(1 if missed and options.check else 0)


def _table(rows: list[dict[str, Any]], steepness: float) -> str:
    names = list(rows[0])
    lines = ["  ".join(f"{name:>23}" for name in names)]
    lines += ["  ".join(f"{row[name]:>23,.4g}" for name in names) for row in rows]
    return "\n".join([*lines, f"exponent of the growth: {steepness:.2f}", ""])


if __name__ == "__main__":
    main()
