"""Read and write weight files. Each file format has a module; `read` and `write` choose the module for a file.

`read` checks the structure of a file before its data, never runs code from the file, and loads one tensor at a time.
`write` writes a temporary file beside the destination. The file gets its final name only after it is complete, flushed
to disk, and read again.
"""

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from keras3conv.errors import FileError
from keras3conv.formats.identify import (
    READERS,
    SUFFIXES,
    check_content,
    expected_format,
    file_of,
    identify,
    is_architecture,
)
from keras3conv.formats.keras.own_layers import named_by_rules
from keras3conv.formats.safe.source import Source
from keras3conv.formats.safe.streaming import Progress
from keras3conv.formats.saving import MANIFEST, Destination, Output, manifest_of, write_all
from keras3conv.formats.shards import parse_size
from keras3conv.formats.store import ALL_CHECKS, Checks, Written, written_by_others
from keras3conv.formats.torch import checkpoint, parts, prefixes
from keras3conv.formats.torch.others import other_prefixes
from keras3conv.garbage import collection_paused
from keras3conv.model.views import ModelView, Reader, Side, TensorRef
from keras3conv.writing.digests import WrittenFile, digest
from keras3conv.writing.outputs import replacing

__all__ = [
    "MANIFEST",
    "SUFFIXES",
    "Checks",
    "Destination",
    "Output",
    "Progress",
    "Written",
    "WrittenFile",
    "check_content",
    "digest",
    "file_of",
    "is_architecture",
    "manifest_of",
    "parse_size",
    "read",
    "read_stored",
    "replacing",
    "side_of",
    "write",
    "write_all",
    "written_by_others",
]


def side_of(path: str | os.PathLike[str]) -> Side:
    """Return the framework of a file: "torch" or "keras". For a folder, the weight file in the folder decides.

    Raises:
        FileError: Neither the suffix nor the content of the file determines the framework.
    """
    return "torch" if expected_format(file_of(path)).startswith(("torch", "safetensors")) else "keras"


def read(path: str | os.PathLike[str], *, entry: str = "", planned: ModelView | None = None) -> ModelView:
    """Return a view of the model in a weight file; `ModelView.read` loads the tensors, one at a time.

    Args:
        path: The file, or a folder that contains one model. The suffix and the content determine the format.
        entry: The name of the state dict to read, if a torch checkpoint contains several; or the prefix of the names,
            if one state dict contains several models, such as "student".
        planned: The torch tensors in a plan; None without a plan. If the file stores a weight as several tensors
            (weight norm), the view has one tensor, or the several tensors if the plan has them. If the file holds
            several state dicts and `entry` is empty, the state dict of the plan is read.

    Raises:
        FileError: The file cannot be read; see the subclasses for the reasons.
    """
    path = file_of(path)
    source = Source.pin(path)
    found = identify(expected_format(path), source)
    if entry and READERS[found] not in _OF_TORCH:
        raise FileError(
            f"{path}: the argument entry is for files of torch weights only, but this file has the format {found}; "
            "leave it out"
        )
    with collection_paused():
        if entry:
            view = _entry(source, found, entry)
        elif found == "torch":
            view = checkpoint.read(source, planned="" if planned is None else planned.state_dict)
        else:
            view = READERS[found](source)
        return parts.joined(view, planned) if view.side == "torch" else named_by_rules(view)


_OF_TORCH = tuple(READERS[name] for name in ("torch", "torch index", "safetensors", "safetensors index"))


def _entry(source: Source, kind: str, entry: str) -> ModelView:
    """Return the view of one of several models in a file: of a state dict, or of the tensors under a prefix.

    Args:
        source: The file.
        kind: The format of the file.
        entry: The name of the state dict, or the prefix.
    """
    if kind == "torch":
        return checkpoint.read(source, entry)
    whole = READERS[kind](source)
    part = prefixes.within(whole, entry)
    return replace(part, facts={**part.facts, **other_prefixes(whole.tensors(), entry)})


def read_stored(path: str | os.PathLike[str], *, entry: str = "") -> ModelView:
    """Return a view of the tensors of a weight file as the file stores them, without joining the parts of a weight.

    For example, torch stores a weight with weight norm as two tensors. This view has both; the view that `read` returns
    has the weight itself.

    Args:
        path: The file.
        entry: The name of the state dict to read, if a torch checkpoint contains several.
    """
    path = file_of(path)
    source = Source.pin(path)
    with collection_paused():
        found = identify(expected_format(path), source)
        return _entry(source, found, entry) if entry else READERS[found](source)


def write(
    path: str | os.PathLike[str],
    tensors: Sequence[TensorRef],
    read: Reader,
    *,
    template: str | os.PathLike[str] | None = None,
    overwrite: bool = False,
    max_shard_size: int | None = None,
    checks: Checks = ALL_CHECKS,
) -> WrittenFile:
    """Write a weight file, one tensor at a time, and replace the destination when it is complete.

    The same tensors always give the same bytes. In a torch checkpoint tied weights stay tied. In safetensors each of
    them is stored as a copy. In the Keras formats every tensor has only one name.

    Args:
        path: The destination; its suffix determines the format.
        tensors: All tensors of the file, in the order of the model.
        read: A function that returns the values of the tensor with a path.
        template: A Keras file of the same format, from which everything except the weights is copied.
        overwrite: Whether an existing file may be replaced.
        max_shard_size: The bytes of a shard, if the tensors are to be divided among several files.
        checks: The checks to run after writing; all by default.

    Returns:
        The file; the index if there are shards.

    Raises:
        FileError: The file cannot be written; an existing file is unchanged.
    """
    destination = Destination.of(
        Path(path),
        tensors,
        read,
        template=None if template is None else Path(template),
        max_shard_size=max_shard_size,
        checks=checks,
    )
    return write_all([destination], overwrite=overwrite)[-1].file
