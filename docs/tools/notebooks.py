"""Run the notebooks of the documentation, and turn them into pages."""

import os
import re
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient

FOLDER = Path(__file__).resolve().parents[1] / "notebooks"
_QUICK = {
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "OMP_NUM_THREADS": "1",
    "XLA_FLAGS": "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true",
}
"""The networks are tiny: fast compilation and no threads that wait for each other."""

SECONDS = 600
"""The time that one cell may take."""


def run(path: Path, folder: Path) -> Any:
    """Run a notebook in a folder and return it with its outputs; raise `CellExecutionError` if a cell raises."""
    notebook: Any = nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]
    backend = notebook.metadata.get("keras3conv", {}).get("backend", "torch")
    environment = {**os.environ, **_QUICK, "KERAS_BACKEND": backend}
    root = str(FOLDER.parents[1])
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH", "")]))
    client = NotebookClient(notebook, timeout=SECONDS, resources={"metadata": {"path": str(folder)}})
    client.execute(env=environment)
    return notebook


def page(path: Path) -> str:
    """Run a notebook and return it as Markdown: text, code, and what each cell printed or displayed."""
    from tempfile import TemporaryDirectory

    with TemporaryDirectory() as folder:
        notebook = run(path, Path(folder))
    return "\n\n".join(part for cell in notebook.cells for part in _parts(cell)) + "\n"


def _parts(cell: Any) -> list[str]:
    if cell.cell_type == "markdown":
        return [cell.source]
    parts = [f"```python\n{cell.source}\n```"]
    for output in cell.outputs:
        if output.output_type == "stream" and output.name == "stdout":
            parts.append(f"```text\n{output.text.rstrip()}\n```")
        elif output.output_type in ("display_data", "execute_result"):
            parts.append(_displayed(output.data))
    return parts


def _displayed(data: dict[str, str]) -> str:
    if "text/html" in data:
        html = re.sub(r"\n\s*\n", "\n", data["text/html"])  # an empty line would end the HTML block of Markdown
        return f'<div class="output">\n{html}\n</div>'
    return f"```text\n{data['text/plain']}\n```"
