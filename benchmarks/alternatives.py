"""Measure other ways on the same models: a script that pairs layers by order, ONNX, and keras-hub's converters.

    KERAS_BACKEND=torch python -m benchmarks alternatives --markdown benchmarks/ALTERNATIVES.md

*By order*: the pairs of `fidelity`, whose right alignment is known and which `align` places right without a hint. A
script that goes by order pairs the layers one after the other; here it has no table of exceptions.

*Through ONNX*: the functional Keras models that `fidelity` builds itself. Keras exports each to ONNX, and onnx2torch
makes a module of the file. It is no dependency: `pip install --no-deps --target FOLDER onnx2torch`, and start this with
`PYTHONPATH=FOLDER`. Beside it stands `convert` of the same models.

*keras-hub*: the files of its converters from transformers, and their lines.
"""

import argparse
import inspect
import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import TypeVar

from benchmarks._alternatives import OPSET, ByOrder, ThroughOnnx, by_order, through_onnx
from benchmarks._fidelity_process import entries
from benchmarks.fidelity import environment

Row = TypeVar("Row")

ABOUT = """# What other routes make of the same models

Written by `KERAS_BACKEND=torch python -m benchmarks alternatives --markdown benchmarks/ALTERNATIVES.md`.

- *By order*: the pairs of [FIDELITY.md](FIDELITY.md), paired layer by layer in the order of both models, by
  `align_ordered` without tables of exceptions; what `align` finds is the reference.
- *Through ONNX*: Keras models that the benchmark builds, exported to ONNX by Keras and read by onnx2torch.
"""


def _each(measure: Callable[[str], Row], names: Sequence[str]) -> Iterator[Row]:
    """Yield the result of `measure` for each name, each in another process."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        for row in pool.map(measure, names):
            print(row, flush=True)
            yield row


def _table(heads: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    lines = [heads, ["---"] + ["---:"] * (len(heads) - 2) + ["---"], *rows]
    return "\n".join(f"| {' | '.join('' if cell is None else str(cell) for cell in line)} |" for line in lines)


def order_section(rows: Sequence[ByOrder]) -> str:
    """Return the section of the page about scripts that pair layers by order."""
    whole = sum(row.right == row.tensors for row in rows)
    table = _table(
        ("pair", "tensors", "placed right by order", ""), [(r.name, r.tensors, r.right, r.note) for r in rows]
    )
    said = f"By order alone, every tensor of {whole} of {len(rows)} pairs is placed right."
    return f"## By order\n\n{said}\n\n{table}"


def onnx_section(rows: Sequence[ThroughOnnx]) -> str:
    """Return the section of the page about the way through ONNX."""
    there = [row for row in rows if row.onnx is not None]
    kept = sum(row.onnx == row.trainable for row in there)
    converted = sum(row.converted == row.trainable for row in rows)
    said = (
        f"Through ONNX, {len(there)} of {len(rows)} models arrive, and {kept} of these keep every trainable number.\n"
        f"`convert` keeps every trainable number of {converted} of {len(rows)} models."
    )
    cells = [
        (
            row.name,
            f"{row.trainable:,}",
            f"{row.converted:,}" if row.converted is not None else None,
            f"{row.onnx:,}" if row.onnx is not None else None,
            f"{row.difference:.0e}" if row.difference is not None else None,
            row.note and f"`{row.note}`",
        )
        for row in rows
    ]
    heads = (
        "model",
        "trainable numbers in Keras",
        "after `convert`",
        "through ONNX",
        "difference of an output",
        "note",
    )
    names = f"onnx2torch {version('onnx2torch')}, opset {OPSET}"
    return f"## Through ONNX\n\n{said}\n{names}.\n\n{_table(heads, cells)}"


def hub_section() -> str:
    """Return the section of the page about keras-hub's converters."""
    os.environ.setdefault("KERAS_BACKEND", "torch")
    import keras_hub

    folder = Path(inspect.getfile(keras_hub)).parent / "src" / "utils" / "transformers"
    files = sorted(folder.glob("convert_*.py"))
    lines = sum(len(path.read_text(encoding="utf-8").splitlines()) for path in files)
    back = {path.stem for path in (folder / "export").glob("*.py")} - {"__init__", "hf_exporter"}
    said = (
        f"keras-hub {version('keras-hub')} has {len(files)} converters from transformers, one for each architecture,\n"
        f"with {lines:,} lines; {len(back)} architectures have a second one for the way back."
    )
    return f"## keras-hub's converters\n\n{said}"


def main() -> None:
    """Measure keras3conv and the alternatives to it, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--markdown", type=Path, help="write the page here")
    options = parser.parse_args()
    if find_spec("onnx2torch") is None:
        parser.error("onnx2torch is not installed: pip install --no-deps --target FOLDER onnx2torch; PYTHONPATH=FOLDER")
    from benchmarks._fidelity_own import ENTRIES

    onnx = [row for row in _each(through_onnx, [entry.name for entry in ENTRIES]) if row]
    order = list(_each(by_order, [entry.name for entry in entries()]))
    page = "\n\n".join([ABOUT.rstrip(), environment(), order_section(order), onnx_section(onnx), hub_section()]) + "\n"
    print(page)
    if options.markdown:
        options.markdown.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
