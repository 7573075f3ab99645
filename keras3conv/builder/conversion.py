"""Define `Conversion`, the result of `convert`, and save it to a folder: all files or none."""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import Any

from keras3conv.alignment.plan import Alignment
from keras3conv.builder.program.program import Program
from keras3conv.errors import FileError
from keras3conv.model.graph import Graph, refs
from keras3conv.report.report import Report
from keras3conv.report.values import WrittenFile
from keras3conv.transforms import Array

FORMAT = 1
"""The version of the format of `metadata.json`."""


@dataclass(frozen=True, kw_only=True)
class Conversion:
    """A torch module that was made from a Keras model.

    Attributes:
        model: The module: an instance of the class `Model` in `source`, with the weights, in evaluation mode.
        source: The text of `model.py`.
        alignment: The plan, which pairs the tensors of the module with the tensors of the Keras model.
        report: The certificate; None with `validate=False`.
        graph: The call graph of the Keras model.
        program: The statements of the module that `source` contains, without classes for repeated blocks.
        inputs: The inputs of the module in the validation.
    """

    model: Any = field(repr=False)
    source: str = field(repr=False)
    alignment: Alignment = field(repr=False)
    report: Report | None = field(repr=False)
    graph: Graph = field(repr=False)
    program: Program = field(repr=False)
    inputs: tuple[Array, ...] = field(repr=False)

    def save(self, folder: str | PathLike[str], *, overwrite: bool = False) -> tuple[WrittenFile, ...]:
        """Write `model.py`, `weights.safetensors`, `metadata.json` and `report.html`: all files or none.

        To load the module, only torch and safetensors are needed:

            from model import Model
            from safetensors.torch import load_file

            model = Model()
            model.load_state_dict(load_file("weights.safetensors"))

        Args:
            folder: The folder; its parent must exist.
            overwrite: Whether to replace an existing folder; all files in it are deleted.

        Raises:
            FileError: The folder exists, or cannot be written; an existing folder is unchanged.
        """
        from keras3conv import formats
        from keras3conv.formats.safe.atomic import digest
        from keras3conv.frameworks.torch import module as torch_side

        path = Path(folder)
        view = torch_side.view(self.model)
        with _replacing(path, overwrite=overwrite) as inside:
            (inside / "model.py").write_text(self.source, encoding="utf-8")
            formats.write(inside / "weights.safetensors", tuple(view.tensors()), view.read)
            if self.report is not None:
                self.report.save(inside / "report.html")
            digests = {file.name: _sha256(file) for file in sorted(inside.iterdir())}
            text = json.dumps(_metadata(self, digests), indent=2, ensure_ascii=False)
            (inside / "metadata.json").write_text(f"{text}\n", encoding="utf-8")
        return tuple(digest(file) for file in sorted(path.iterdir()))


def _metadata(conversion: Conversion, digests: dict[str, str]) -> dict[str, Any]:
    from keras3conv.builder.program.variables import variable_names
    from keras3conv.builder.source.torch_source import described
    from keras3conv.report.report import current_environment

    program, names = conversion.program, variable_names(conversion.program)
    parameters = dict(conversion.model.named_parameters())
    outputs = [program.values[ref.name] for ref in refs(program.outputs)]
    return {
        "format": FORMAT,
        "name": program.name,
        "inputs": [
            {"name": names.arguments[value.name], "keras_name": program.input_names.get(value.name, "")}
            | {"shape": described(value.target_shape), "dtype": value.dtype, "keras_axes": list(value.order)}
            for value in program.inputs
        ],
        "outputs": [
            {"shape": described(value.target_shape), "dtype": value.dtype, "keras_axes": list(order)}
            for value, order in zip(outputs, program.output_orders, strict=True)
        ],
        "trainable_parameters": sum(one.numel() for one in parameters.values() if one.requires_grad),
        "frozen": [path for path, one in parameters.items() if not one.requires_grad],
        "certificate": conversion.report.status if conversion.report is not None else "not made",
        "sha256": digests,
        "versions": current_environment(),
        "alignment": json.loads(conversion.alignment.to_json()),
    }


@contextmanager
def _replacing(folder: Path, *, overwrite: bool) -> Iterator[Path]:
    """Yield a temporary folder, and rename it to `folder` when the block ends without an exception."""
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        raise FileError(f"{folder} exists and is not a folder")
    if folder.exists() and not overwrite:
        raise FileError(f"{folder} exists\nFix:  overwrite=True")
    if not folder.parent.is_dir():
        raise FileError(f"{folder}: the folder {folder.parent} does not exist")
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.tmp-", dir=folder.parent))
    try:
        yield temporary
        temporary.chmod(0o777 & ~_umask())
        _rename(temporary, folder)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def _rename(temporary: Path, folder: Path) -> None:
    """Rename the temporary folder to `folder`. An existing folder is moved away first; a failure moves it back."""
    if not folder.exists():
        temporary.rename(folder)
        return
    aside = Path(tempfile.mkdtemp(prefix=f".{folder.name}.old-", dir=folder.parent)) / folder.name
    folder.rename(aside)
    try:
        temporary.rename(folder)
    except BaseException:
        aside.rename(folder)
        raise
    finally:
        shutil.rmtree(aside.parent, ignore_errors=True)


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _umask() -> int:
    """Return the umask of the process, which can only be read by setting it."""
    mask = os.umask(0)
    os.umask(mask)
    return mask
