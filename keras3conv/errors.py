"""Define the exceptions, and `Problem`, one entry in the list of errors that a message shows.

A message has a headline, then one line for each problem in aligned columns, then a call that fixes the first ones:

    AlignmentError: 2 problems in the alignment of Net (torch) and resnet8 (keras)
      fc       (torch)  matched nothing; same shapes: predictions, aux_predictions
      stem_bn  (keras)  would keep its initial value
    Fix:  plan = plan.pair("fc", "predictions")
"""

import reprlib
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import islice

from keras3conv.width import folded

__all__ = [
    "AlignmentError",
    "BudgetExceeded",
    "FileError",
    "IncompleteCheckpoint",
    "InputError",
    "Keras3ConvError",
    "MalformedCheckpoint",
    "MissingExtra",
    "ModelError",
    "NoData",
    "Problem",
    "ProofError",
    "RuleError",
    "TransferError",
    "TransformError",
    "UnsafeCheckpoint",
    "UnsupportedLayerError",
]


def __dir__() -> list[str]:
    return __all__


RAISED_BY_MODELS = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    RuntimeError,
    TypeError,
    ValueError,
)
"""The exceptions from a model's own code that are converted to a `ModelError`.

`MemoryError`, `OSError` and `KeyboardInterrupt` are not converted: the model does not cause them.
"""


_LONGEST_QUOTE = 200
_LONGEST_LINE = 1000
_LONGEST_MESSAGE = 20_000

_SHORT = reprlib.Repr()
_SHORT.maxlist = _SHORT.maxtuple = _SHORT.maxdict = 8
_SHORT.maxlevel, _SHORT.maxstring, _SHORT.maxother, _SHORT.maxlong = 2, 60, _LONGEST_QUOTE, 60


def quoted(value: object) -> str:
    """Return a value from a file for an error message: in quotation marks, escaped, at most 200 characters."""
    if isinstance(value, str | bytes):
        return repr(value[:_LONGEST_QUOTE]) + ("..." if len(value) > _LONGEST_QUOTE else "")
    return printable(_SHORT.repr(value), _LONGEST_QUOTE)


def listed(values: Iterable[object], limit: int = 10) -> str:
    """Return the first values of a file for a message: escaped, cut to 60 characters, separated by commas."""
    texts = [printable(str(value), 60) for value in islice(values, limit + 1)]
    return ", ".join(texts[:limit]) + (", ..." if len(texts) > limit else "")


def first_of(texts: Sequence[str], limit: int, separator: str = ", ") -> str:
    """Return the first of some texts, joined, and the number of the others, such as "a, b and 3 more"."""
    more = f" and {len(texts) - limit} more" if len(texts) > limit else ""
    return separator.join(texts[:limit]) + more


def printable(text: str, limit: int = _LONGEST_LINE) -> str:
    """Return a text safe for a terminal: without control characters, each line cut to `limit` characters.

    Control characters, invisible characters, and surrogates, which cannot be encoded, become escapes.
    """
    lines = text[:_LONGEST_MESSAGE].split("\n")
    return "\n".join(_escaped(line if len(line) <= limit else f"{line[:limit]}...") for line in lines)


def _escaped(line: str) -> str:
    if line.isprintable():
        return line
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode("ascii") for one in line)


class Keras3ConvError(Exception):
    """The base class of all errors that keras3conv raises on purpose.

    The message has no control characters. On a terminal it is folded to the width; a log, a test and an f-string get
    the lines as they were written.
    """

    def __init__(self, *args: object) -> None:
        super().__init__(*(printable(entry) if isinstance(entry, str) else entry for entry in args))

    @property
    def message(self) -> str:
        """The message with the line breaks that it was written with; it is not folded to the width of a terminal."""
        return super().__str__()

    def __str__(self) -> str:
        if sys.stderr is None or not sys.stderr.isatty():
            return self.message
        kind = type(self)
        return folded(self.message, before=len(f"{kind.__module__}.{kind.__qualname__}: "))

    def __format__(self, specification: str) -> str:
        return format(self.message, specification)


def message_of(error: BaseException) -> str:
    """Return the message of an error with its original line breaks, to insert it into another message."""
    return error.message if isinstance(error, Keras3ConvError) else str(error)


class TransformError(Keras3ConvError, ValueError):
    """Raised if a transform is not reversible, has invalid arguments or JSON, or cannot be applied to its arrays.

    Also raised if a transform would lose values, and if two transform classes have the same name.
    """


class RuleError(Keras3ConvError, ValueError):
    """Raised if a rule given to `register` is invalid, or if a rule cannot convert the configuration of a layer."""


class AlignmentError(Keras3ConvError):
    """Raised if a plan leaves a tensor neither paired nor ignored, or if an edit of it does not fit the models."""


class UnsupportedLayerError(AlignmentError):
    """Raised if an unpaired layer of a plan has a class without a rule, or if a layer cannot be converted."""


class TransferError(Keras3ConvError):
    """Raised if the weights cannot be transferred; the target is unchanged."""


class ModelError(Keras3ConvError):
    """Raised if a model cannot be built, called or read."""


class InputError(Keras3ConvError, ValueError):
    """Raised if an argument is invalid, or if the inputs do not fit the models."""


class ProofError(Keras3ConvError):
    """Raised if a proof failed, or if no proof passed."""


class FileError(Keras3ConvError):
    """Raised if a file cannot be read or written. The message names the file, and the tensor if one is affected."""


class MalformedCheckpoint(FileError):
    """Raised if the content of a file contradicts the file format or the file's own header."""


class UnsafeCheckpoint(FileError):
    """Raised if reading a file would run code, read outside of the file, or follow a link."""


class BudgetExceeded(FileError):
    """Raised if a file declares more data than it contains, or more than the size limit."""


class NoData(FileError):
    """Raised if a file declares a tensor but has no values for it."""


class IncompleteCheckpoint(FileError):
    """Raised if a file declares a tensor or a shard that is missing."""


EXTRA_OF = {
    "torch": "torch",
    "keras": "keras",
    "jax": "jax",
    "tensorflow": "tensorflow",
    "jinja2": "report",
    "sklearn": "demo",
    "onnx": "onnx",
    "onnxruntime": "onnx",
    "onnxscript": "onnx",
    "tf2onnx": "onnx",
    "jax2onnx": "onnx-jax",
    "ray": "ray",
}
"""For each optional package, by the name under which it is imported, the extra of keras3conv that installs it."""


class MissingExtra(Keras3ConvError, ImportError):
    """Raised if a package for an optional feature is not installed."""

    def __init__(self, feature: str, *packages: str) -> None:
        """Create the error that a feature needs packages which are not installed.

        Args:
            feature: The feature, as it is called in the message.
            *packages: The packages, by the names under which they are imported.
        """
        *others, last = packages
        named = f"{', '.join(others)} and {last}" if others else last
        super().__init__(f"{feature} needs {named}: {installing(packages)}")


def installing(packages: Iterable[str]) -> str:
    """Return the command that installs optional packages, given by the names under which they are imported."""
    return f'pip install "keras3conv[{",".join(dict.fromkeys(EXTRA_OF[package] for package in packages))}]"'


def require(feature: str, *packages: str) -> None:
    """Raise `MissingExtra`, which names all missing packages, if a feature needs packages that are not installed."""
    if missing := [package for package in packages if find_spec(package) is None]:
        raise MissingExtra(feature, *missing)


@dataclass(frozen=True, kw_only=True)
class Problem:
    """One error: the fact, the paths of the torch and Keras layers that it concerns, and the calls that fix it."""

    fact: str
    torch: str = ""
    keras: str = ""
    fixes: tuple[str, ...] = ()

    @classmethod
    def on(cls, side: str, path: str, fact: str, fixes: tuple[str, ...] = ()) -> "Problem":
        """Create a problem that concerns one side only.

        Args:
            side: The side: "torch" or "keras".
            path: The path of the layer or tensor on this side.
            fact: A sentence on the problem.
            fixes: The calls that fix it.
        """
        if side == "torch":
            return cls(torch=path, fact=fact, fixes=fixes)
        return cls(keras=path, fact=fact, fixes=fixes)

    @property
    def where(self) -> str:
        """The layers of the problem as text: the torch path and the Keras path, or one path if it concerns one side."""
        if self.torch and self.keras:
            return f"{self.torch}  <->  {self.keras}"
        return self.torch or self.keras

    @property
    def side(self) -> str:
        """The side of the problem in brackets, "(torch)", if the problem concerns only one side; else an empty text."""
        if bool(self.torch) == bool(self.keras):
            return ""
        return "(torch)" if self.torch else "(keras)"
