"""Find the index of a TensorFlow checkpoint by its prefix, by one of its files, or by the folder of a SavedModel."""

import os
import re
from collections.abc import Collection
from pathlib import Path

from keras3conv.errors import UnsafeCheckpoint

_VALUES = re.compile(r"(.+)\.data-\d{5}-of-\d{5}")
_SAVED_MODEL = frozenset({"saved_model.pb", "saved_model.pbtxt"})


def index_of(path: Path) -> Path:
    """Return the path of a checkpoint's index: "ckpt-1.index" for "ckpt-1" or "ckpt-1.data-00000-of-00001".

    Any other path is returned unchanged, as is a path without an index.
    """
    values = _VALUES.fullmatch(path.name)
    if values is None and (not path.name or os.path.lexists(path)):
        return path
    index = path.with_name(f"{values[1] if values else path.name}.index")
    return index if os.path.lexists(index) else path


def index_in(folder: Path, names: Collection[str]) -> Path | None:
    """Return the index of the weights of a SavedModel; None if the folder is not one, or has no weights.

    Args:
        folder: The folder.
        names: The names of the files and folders in it.

    Raises:
        UnsafeCheckpoint: The folder of the weights is a link.
    """
    inside = folder / "variables"
    index = inside / "variables.index"
    if _SAVED_MODEL.isdisjoint(names) or not os.path.lexists(index):
        return None
    if inside.is_symlink():
        raise UnsafeCheckpoint(f"{inside} is a link to another folder, and links are not followed; copy the folder")
    return index
