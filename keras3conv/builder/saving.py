"""A folder for a conversion: all of it or nothing, and nothing that was there before is lost by accident."""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keras3conv import formats
from keras3conv.builder.program.variables import variable_names
from keras3conv.builder.source.torch_source import described
from keras3conv.errors import FileError
from keras3conv.model.graph import refs
from keras3conv.report.report import current_environment
from keras3conv.report.values import WrittenFile

if TYPE_CHECKING:
    from keras3conv.builder.conversion import Conversion

FORMAT = 1
"""The number of the form of `metadata.json`."""


def save(conversion: "Conversion", folder: Path, *, overwrite: bool) -> tuple[WrittenFile, ...]:
    """Writes `model.py`, `weights.safetensors`, `metadata.json` and, where there is one, `report.html`.

    Raises:
        FileError: The folder exists and may not be replaced, or cannot be written.
    """
    from keras3conv.formats.safe.atomic import digest
    from keras3conv.frameworks.torch import module as torch_side

    view = torch_side.view(conversion.model)
    with _replacing(folder, overwrite=overwrite) as inside:
        (inside / "model.py").write_text(conversion.source, encoding="utf-8")
        formats.write(inside / "weights.safetensors", tuple(view.tensors()), view.read)
        if conversion.report is not None:
            conversion.report.save(inside / "report.html")
        hashes = {path.name: _sha256(path) for path in sorted(inside.iterdir())}
        text = json.dumps(_metadata(conversion, hashes), indent=2, ensure_ascii=False)
        (inside / "metadata.json").write_text(f"{text}\n", encoding="utf-8")
    return tuple(digest(path) for path in sorted(folder.iterdir()))


def _metadata(conversion: "Conversion", hashes: dict[str, str]) -> dict[str, Any]:
    program, names = conversion.program, variable_names(conversion.program)
    parameters = dict(conversion.model.named_parameters())
    outputs = [program.values[ref.name] for ref in refs(program.outputs)]
    return {
        "format": FORMAT,
        "name": program.name,
        "inputs": [
            {"name": names.arguments[value.name], "keras_name": program.input_names.get(value.name, "")}
            | {"shape": described(value.torch_shape), "dtype": value.dtype, "keras_axes": list(value.order)}
            for value in program.inputs
        ],
        "outputs": [
            {"shape": described(value.torch_shape), "dtype": value.dtype, "keras_axes": list(value.order)}
            for value in outputs
        ],
        "trainable_parameters": sum(one.numel() for one in parameters.values() if one.requires_grad),
        "frozen": [path for path, one in parameters.items() if not one.requires_grad],
        "certificate": conversion.report.status if conversion.report is not None else "not made",
        "sha256": hashes,
        "versions": current_environment(),
        "alignment": json.loads(conversion.alignment.to_json()),
    }


@contextmanager
def _replacing(folder: Path, *, overwrite: bool) -> Iterator[Path]:
    """A new folder beside the one that is meant, which takes its name when the block ends without an exception."""
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        raise FileError(f"{folder} exists and is no folder")
    if folder.exists() and not overwrite:
        raise FileError(f"{folder} exists\nFix:  overwrite=True")
    if not folder.parent.is_dir():
        raise FileError(f"{folder}: there is no folder {folder.parent}")
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.tmp-", dir=folder.parent))
    try:
        yield temporary
        temporary.chmod(0o777 & ~_umask())
        _take_name(temporary, folder)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def _take_name(temporary: Path, folder: Path) -> None:
    """A folder cannot be replaced in one step: the old one steps aside first, and comes back if the new one cannot."""
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
    """The process's umask; it can only be read by setting it."""
    mask = os.umask(0)
    os.umask(mask)
    return mask
