"""A flat state dict with several models: `entry` takes one of them by the prefix of its names."""

from pathlib import Path

import numpy as np
import pytest

from keras3conv import formats
from keras3conv.errors import FileError
from keras3conv.formats.torch.prefixes import prefixes
from keras3conv.model.views import TensorRef


def file(folder: Path, *names: str) -> Path:
    """Write a file in which the values of a tensor are the place of its name."""
    tensors = [TensorRef(path=name, role="weight", shape=(2,), dtype="float32", trainable=True) for name in names]
    path = folder / "two.safetensors"
    formats.write(path, tensors, lambda name: np.full(2, names.index(name), np.float32))
    return path


def test_entry_takes_the_tensors_under_a_prefix(tmp_path: Path) -> None:
    path = file(tmp_path, "student.a.weight", "teacher.a.weight", "teacher.b.bias")
    view = formats.read(path, entry="teacher")
    assert [(tensor.path, view.read(tensor.path)[0]) for tensor in view.tensors()] == [("a.weight", 1), ("b.bias", 2)]


def test_an_unknown_entry_is_refused_with_the_prefixes(tmp_path: Path) -> None:
    path = file(tmp_path, "student.a.weight", "teacher.a.weight")
    with pytest.raises(FileError, match=r"no state dict 'nobody'.*begin with: student, teacher"):
        formats.read(path, entry="nobody")


@pytest.mark.parametrize(
    ("names", "found"),
    [
        (["module.q.0.weight", "module.k.0.weight", "module.queue"], ["module.q", "module.k"]),
        (["module.q.0.weight", "module.q.1.weight"], ["module.q.0", "module.q.1"]),
        (["weight"], []),
        ([], []),
    ],
)
def test_prefixes_divide_the_names(names: list[str], found: list[str]) -> None:
    assert prefixes(names) == found
