"""Define the exceptions, and the facts that their messages are made of.

A message names what is wrong and where, then lists the facts in aligned columns, then the call to paste:

    AlignmentError: 2 problems in the alignment of Net (torch) and resnet8 (keras)
      fc       (torch)  matched nothing; same shapes: predictions, aux_predictions
      stem_bn  (keras)  would keep its initial value
    Fix:  plan.pair("fc", "predictions")
"""

from dataclasses import dataclass

RAISED_BY_MODELS = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    RuntimeError,
    TypeError,
    ValueError,
)
"""Exceptions that the code of a model raises for inputs that it does not accept; they become a `ModelError`.

Running out of memory, a file that cannot be read, and an interrupt are not the model's fault.
"""


class Keras3ConvError(Exception):
    """The base class of all errors that keras3conv raises on purpose."""


class TransformError(Keras3ConvError, ValueError):
    """A transform that cannot be reversed, or arrays that do not fit a transform."""


class RuleError(Keras3ConvError, ValueError):
    """A rule that `register` refuses, or a configuration that a rule refuses."""


class AlignmentError(Keras3ConvError):
    """A plan that does not pair or ignore every tensor of both models, or an edit that does not fit them."""


class UnsupportedLayerError(AlignmentError):
    """A plan with unpaired layers of classes that no rule knows."""


class TransferError(Keras3ConvError):
    """A transfer that was refused; the target is unchanged."""


class ModelError(Keras3ConvError):
    """A model that could not be built, called or read."""


class InputError(Keras3ConvError, ValueError):
    """Inputs or arguments that do not fit the models."""


class ProofError(Keras3ConvError):
    """A proof of a certificate failed."""


class FileError(Keras3ConvError):
    """A file that was refused. The message names the file and, where one is concerned, the tensor."""


class MalformedCheckpoint(FileError):
    """The bytes contradict the format, or the header of the file."""


class UnsafeCheckpoint(FileError):
    """Reading the file would run code, read outside of the file, or follow a link."""


class BudgetExceeded(FileError):
    """The file declares more data than it stores, or more than the limit."""


class NoData(FileError):
    """A tensor is declared, but the file has no values for it."""


class IncompleteCheckpoint(FileError):
    """A tensor or a shard that the file declares is missing."""


class MissingExtra(Keras3ConvError, ImportError):
    """A package for an optional feature is not installed."""

    def __init__(self, feature: str, package: str, extra: str) -> None:
        """Name the feature, the missing package and the command that installs it."""
        super().__init__(f'{feature} needs {package}: pip install "keras3conv[{extra}]"')


@dataclass(frozen=True, kw_only=True)
class Problem:
    """One thing that is wrong: the fact, the paths on each side, and the calls that fix it."""

    fact: str
    torch: str = ""
    keras: str = ""
    fixes: tuple[str, ...] = ()

    @classmethod
    def on(cls, side: str, path: str, fact: str, fixes: tuple[str, ...] = ()) -> "Problem":
        """Return a problem of one side, "torch" or "keras"."""
        if side == "torch":
            return cls(torch=path, fact=fact, fixes=fixes)
        return cls(keras=path, fact=fact, fixes=fixes)

    @property
    def where(self) -> str:
        """The paths, in the order torch, Keras."""
        if self.torch and self.keras:
            return f"{self.torch}  <->  {self.keras}"
        return self.torch or self.keras

    @property
    def side(self) -> str:
        """The side in brackets if only one is concerned; else empty."""
        if bool(self.torch) == bool(self.keras):
            return ""
        return "(torch)" if self.torch else "(keras)"
