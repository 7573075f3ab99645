"""Describe one dataset of an HDF5 file, and defer the descriptions of many until they are used."""

from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple, TypeVar, overload

from keras3conv.transforms import Shape

Attribute = str | tuple[str, ...]
_Value = TypeVar("_Value")
_Default = TypeVar("_Default")


class Deferred(Mapping[str, _Value]):
    """A mapping from the paths of an HDF5 file to values; it is computed at the first look-up of an unknown path."""

    def __init__(self, known: Mapping[str, _Value], make: Callable[[], Mapping[str, _Value]]) -> None:
        """Store the known values by path, and a function that returns the values of all paths."""
        self._known, self._make = known, make

    def _all(self) -> Mapping[str, _Value]:
        self._known = self._make()
        self._make = lambda: self._known
        return self._known

    def __getitem__(self, path: str) -> _Value:
        """Return the value of a path; make the whole mapping if it is not known before."""
        return self._known[path] if path in self._known else self._all()[path]

    @overload
    def get(self, key: str, /) -> _Value | None: ...
    @overload
    def get(self, key: str, /, default: _Value | _Default) -> _Value | _Default: ...
    def get(self, key: str, /, default: object = None) -> object:
        """Return the value of a path, or the default."""
        return self._known[key] if key in self._known else self._all().get(key, default)

    def __iter__(self) -> Iterator[str]:
        """Yield the path of every object of the file that has a value."""
        return iter(self._all())

    def __len__(self) -> int:
        """Return the number of paths that have a value."""
        return len(self._all())

    def __repr__(self) -> str:
        """Return the text of the whole mapping as a dict."""
        return repr(dict(self))


class Dataset(NamedTuple):
    """A dataset of an HDF5 file, after a check that it is plain data: its path, shape and dtype, without its values.

    It is a tuple because a file may have 100,000 datasets, and a tuple is created several times as fast.

    Attributes:
        path: The path in the file.
        shape: The shape.
        dtype: The name of the dtype, as in numpy or ml_dtypes.
        address: The address of the object header; two paths with the same address are the same dataset.
        stored: The size in the file, in bytes.
        layout: The numpy dtype of the values in the file (">f4"), if they are in one piece and plain; else empty.
        offset: The offset of the values in the file, if `layout` is not empty.
    """

    path: str
    shape: Shape
    dtype: str
    address: int
    stored: int
    layout: str = ""
    offset: int = 0
