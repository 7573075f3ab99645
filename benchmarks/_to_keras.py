"""Convert each architecture of the zoo to Keras: proven, trainable, saved, and run on every backend.

    python -m benchmarks bench_convert --to keras --only 'resnet*' BERT
    python -m benchmarks bench_convert --to keras --jobs 2 --lines results.jsonl --table benchmarks/TO_KERAS.md

Each row has a process of its own with a time limit, forked from a server that has imported the frameworks. Two more
processes, without torch, load what it saved, on JAX and on TensorFlow. A row that is in the file of results is not
measured again.
"""

import argparse
import fnmatch
import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks._to_keras_rows import Row, described, read, rows_in_table, table
from benchmarks._to_keras_step import step_difference
from benchmarks._zoo import Architecture, architectures

BACKENDS = ("jax", "tensorflow")

_PERMUTATIONS = frozenset({"Moveaxis", "Permute", "Swapaxes", "Transpose"})
"""The classes of Keras' operations and layers that permute axes."""


def measured(name: str, folder: str) -> Row:
    """Convert an architecture and measure everything that needs torch; save the outputs in the folder."""
    import torch

    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    architecture = architectures()[name]
    row = Row(name=name, kind=architecture.kind)
    module, inputs = _made(architecture)
    conversion = _part(row, "conversion", lambda: _converted(row, module, inputs))
    if conversion is None:
        row.exported = "torch.export" not in row.problems["conversion"]
        return row
    for part in (_numbers, _train, _save):
        _part(row, part.__name__.strip("_"), lambda part=part: part(row, module, inputs, conversion, Path(folder)))
    return row


def _part(row: Row, name: str, work: Any) -> Any:
    """Run a part of the measurement and return its result; if it fails, record the reason in the row."""
    from keras3conv.errors import RAISED_BY_MODELS, Keras3ConvError

    try:
        return work()
    except (Keras3ConvError, OSError, *RAISED_BY_MODELS) as error:
        row.problems[name] = f"{type(error).__name__}: {error}"
        return None


def _made(architecture: Architecture) -> tuple[Any, Any]:
    import torch

    from benchmarks._fidelity import randomised

    torch.manual_seed(1)
    module, inputs = architecture.build()
    return randomised(module), inputs


def _converted(row: Row, module: Any, inputs: Any) -> Any:
    import keras3conv as k3c

    start = time.process_time()
    conversion = k3c.convert(module, inputs=inputs, validate=False)
    row.seconds = time.process_time() - start
    row.exported = row.converted = True
    row.transposes = sum(type(one).__name__ in _PERMUTATIONS for one in conversion.model.operations)
    row.lines, row.layers = len(conversion.source.splitlines()), len(conversion.model.layers)
    return conversion


def _numbers(row: Row, module: Any, inputs: Any, conversion: Any, folder: Path) -> None:
    """Compare the outputs of torch and Keras in float64 and in float32, and save those of torch."""
    import numpy as np

    from keras3conv.frameworks.keras import model as keras_side
    from keras3conv.frameworks.torch import module as torch_side
    from keras3conv.frameworks.torch.derived import planned_in_parts
    from keras3conv.numerics.judgement import judge
    from keras3conv.validators.running.output_pairs import output_pairs

    given = list(conversion.inputs)
    arrays = [one.astype("float64") if one.dtype.kind == "f" else one for one in given]
    with keras_side.float64_mode(conversion.model):
        exact = keras_side.run(conversion.model, arrays[0] if len(arrays) == 1 else arrays, watch=False)
    found = keras_side.run(conversion.model, given[0] if len(given) == 1 else given, watch=False)
    in_parts = planned_in_parts(module, conversion.alignment.torch)
    truth = torch_side.run(module, inputs, float64=True, watch=False, in_parts=in_parts)
    expected = torch_side.run(module, inputs, watch=False)
    worst, truths = 0.0, list(output_pairs(truth, exact))
    for pair in truths:
        if pair.mismatch:
            raise ValueError(pair.mismatch)
        scale = float(np.max(np.abs(pair.torch_output))) or 1.0
        worst = max(worst, float(np.max(np.abs(pair.torch_output * 1.0 - pair.keras_output))) / scale)
    row.float64, row.float32 = worst, True
    saved = {f"given{place}": array for place, array in enumerate(given)}
    for place, pair in enumerate(output_pairs(expected, found)):
        true = truths[place].torch_output
        row.float32 = row.float32 and judge(pair.keras_output, pair.torch_output, true).passed
        saved |= {f"torch{place}": pair.torch_output, f"truth{place}": true}
    np.savez(folder / "values.npz", **saved)


def _train(row: Row, module: Any, inputs: Any, conversion: Any, folder: Path) -> None:
    """Count the trainable elements, and compare one step of SGD."""
    unused = {ignored.path for ignored in conversion.alignment.ignored if ignored.side == "torch"}
    named = {path: one for path, one in module.named_parameters() if one.requires_grad and path not in unused}
    wanted = sum(one.numel() for one in named.values())
    found = sum(int(variable.value.numel()) for variable in conversion.model.trainable_variables)
    merged = sum(
        _elements(named, mapping.torch) - _elements(named, mapping.torch[:1])
        for mapping in conversion.alignment.mappings
        if len(mapping.torch) > 1 and "Sum" in type(mapping.transform).__name__
    )
    row.trainable = wanted - merged == found
    if not row.trainable:
        row.problems["trainable"] = f"{wanted} in torch, {found} in Keras"
    row.step = step_difference(module, inputs, conversion)


def _elements(named: dict[str, Any], paths: Sequence[str]) -> int:
    return sum(named[path].numel() for path in paths if path in named)


def _save(row: Row, module: Any, inputs: Any, conversion: Any, folder: Path) -> None:
    conversion.save(folder / "saved")


def backend_main() -> int:
    """Load saved models without torch; each line of input is a folder, each line of output the result."""
    import keras
    import numpy as np

    from keras3conv.frameworks.keras.values import error_message, raised_by_keras
    from keras3conv.numerics.judgement import judge

    warnings.simplefilter("ignore")
    known: tuple[type[Exception], ...] = (OSError, *raised_by_keras())
    for line in sys.stdin:
        folder = Path(line.strip())
        try:
            answer = _reloaded(folder, keras, np, judge)
        except known as error:
            answer = f"{type(error).__name__}: {error_message(error)[:300]}"
        keras.backend.clear_session()
        print(json.dumps(answer), flush=True)
    return 0


def _reloaded(folder: Path, keras: Any, np: Any, judge: Any) -> str:
    """Return what is wrong with a saved model on this backend; an empty text if nothing is."""
    with np.load(folder / "values.npz") as file:
        values = dict(file)
    given = [values[f"given{place}"] for place in range(sum(name.startswith("given") for name in values))]
    loaded = keras.saving.load_model(folder / "saved" / "model.keras")
    space: dict[str, Any] = {"__name__": "model", "__file__": str(folder / "saved" / "model.py")}
    exec((folder / "saved" / "model.py").read_text(), space)  # noqa: S102 - our own text
    built = space["build_model"]()
    built.load_weights(folder / "saved" / "model.weights.h5")
    for model in (loaded, built):
        outputs = keras.tree.flatten(model(given[0] if len(given) == 1 else given))
        for place, output in enumerate(outputs):
            found = keras.ops.convert_to_numpy(output)
            true, expected = values[f"truth{place}"], values[f"torch{place}"]
            if found.shape != expected.shape:
                return f"output {place} has the shape {found.shape}, not {expected.shape}"
            if not judge(found, expected, true).passed:
                return f"output {place} differs by {float(np.max(np.abs(found - expected))):.1e}"
    return "torch was imported" if "torch" in sys.modules else ""


class _Backend:
    """A process with Keras on one backend and without torch; it is restarted after it stops."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.process: subprocess.Popen[str] | None = None
        self.done = 0

    def reloaded(self, folder: Path) -> str:
        """Return what is wrong with a saved model on this backend; an empty text if nothing is."""
        if self.process is None or self.process.poll() is not None or self.done >= 50:
            self.stop()
            command = [sys.executable, "-c", "from benchmarks._to_keras import backend_main; backend_main()"]
            environment = {**os.environ, "KERAS_BACKEND": self.name, "TF_CPP_MIN_LOG_LEVEL": "3"}
            pipe = subprocess.PIPE
            self.process = subprocess.Popen(
                command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, text=True, env=environment
            )
            self.done = 0
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.done += 1
        self.process.stdin.write(f"{folder}\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        return str(json.loads(line)) if line.startswith('"') else f"the process ended: {line}"

    def stop(self) -> None:
        """End the process."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()


def run(names: Sequence[str], arguments: argparse.Namespace) -> dict[str, Row]:
    """Measure every architecture, each in a separate process."""
    os.environ.update(KERAS_BACKEND="torch", OMP_NUM_THREADS="1", TF_CPP_MIN_LOG_LEVEL="3")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["benchmarks._to_keras_imports"])
    rows = read(arguments.lines)
    chosen = [name for name in names if name not in rows]

    def worker(place: int) -> None:
        backends = [_Backend(name) for name in BACKENDS] if not arguments.torch_only else []
        for name in chosen[place :: arguments.jobs]:
            rows[name] = _in_a_process(context, name, backends, arguments.limit)
            if arguments.lines:
                with arguments.lines.open("a") as file:
                    file.write(json.dumps(asdict(rows[name])) + "\n")
            print(described(rows[name]), flush=True)
        for backend in backends:
            backend.stop()

    with ThreadPoolExecutor(arguments.jobs) as pool:
        list(pool.map(worker, range(arguments.jobs)))
    return {name: rows[name] for name in names}


def _in_a_process(context: Any, name: str, backends: Sequence[_Backend], limit: float) -> Row:
    with tempfile.TemporaryDirectory() as folder:
        receiver, sender = context.Pipe(duplex=False)
        process = context.Process(target=_send, args=(sender, name, folder))
        process.start()
        sender.close()
        if not receiver.poll(limit):
            process.kill()
            return Row(name=name, problems={"time": f"not finished in {limit:.0f} s"})
        try:
            row: Row = receiver.recv()
        except EOFError:
            process.join()
            return Row(name=name, problems={"process": f"ended with exit status {process.exitcode}"})
        process.join()
        is_saved = all((Path(folder) / name).exists() for name in ("saved", "values.npz"))
        for backend in backends if is_saved else ():
            said = backend.reloaded(Path(folder))
            setattr(row, backend.name, not said)
            if said:
                row.problems[backend.name] = said
    return row


def _send(sender: Any, name: str, folder: str) -> None:
    sender.send(measured(name, folder))


def main(given: Sequence[str]) -> int:
    """Measure the chosen architectures; with --check the exit status is 1 if a row is incomplete."""
    parser = argparse.ArgumentParser(prog="bench_convert --to keras")
    parser.add_argument("--only", nargs="+", default=["*"], help="Names or patterns of architectures or groups.")
    parser.add_argument("--jobs", type=int, default=1, help="The number of rows that run at the same time.")
    parser.add_argument("--limit", type=float, default=900.0, help="The seconds that a row may take.")
    parser.add_argument("--lines", type=Path, help="A file of JSON lines; the rows in it are not tried again.")
    parser.add_argument("--table", type=Path, help="The Markdown file to write; rows that are not measured stay.")
    parser.add_argument("--torch-only", action="store_true", help="Leave out JAX and TensorFlow.")
    parser.add_argument("--check", action="store_true", help="Exit with 1 if a row is not complete.")
    arguments = parser.parse_args(given)
    known = architectures()
    names = [
        name
        for name, one in known.items()
        if any(fnmatch.fnmatchcase(text, pattern) for pattern in arguments.only for text in (name, one.kind))
    ]
    rows = run(names, arguments)
    complete = sum(row.is_complete for row in rows.values())
    print(f"{complete} of {len(rows)} complete")
    if arguments.table:
        kept = rows_in_table(arguments.table) | rows
        text = table(kept[name] for name in known if name in kept)
        arguments.table.write_text(text, encoding="utf-8")
    return int(arguments.check and complete < len(rows))
