"""The exception family, and the one function that lays a message out.

A message says what is wrong and where (in both models), then the facts, aligned, then the line to paste:

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
"""What the code of a model raises for inputs that it cannot take: it is said of the layer, as a `ModelError`.

Running out of memory, a file that cannot be read, and an interrupt are not the model's.
"""


class Keras3ConvError(Exception):
    """Every error that keras3conv raises on purpose."""


class TransformError(Keras3ConvError, ValueError):
    """A transform that cannot be reversed, or arrays that do not fit a transform."""


class RuleError(Keras3ConvError, ValueError):
    """A rule that is refused when it is registered."""


class AlignmentError(Keras3ConvError):
    """A plan that does not place every tensor of both models."""


class UnsupportedLayerError(AlignmentError):
    """Among the layers without a place are some that no rule knows; all of a model's at once."""


class TransferError(Keras3ConvError):
    """A transfer that was refused; the target is as it was."""


class ModelError(Keras3ConvError):
    """A model that could not be made, called or read."""


class InputError(Keras3ConvError, ValueError):
    """Inputs, or arguments, that do not fit the models they are for."""


class ProofError(Keras3ConvError):
    """A proof of a certificate failed."""


class FileError(Keras3ConvError):
    """A file that was refused. Its message names the file and, where there is one, the tensor."""


class MalformedCheckpoint(FileError):
    """The bytes are not what the format, or the file's own header, promises."""


class UnsafeCheckpoint(FileError):
    """Reading the file as asked would run code, leave the file, or follow a link."""


class BudgetExceeded(FileError):
    """The file declares more data than it stores, or than is sensible to read."""


class NoData(FileError):
    """A tensor is declared, but its values were never written."""


class IncompleteCheckpoint(FileError):
    """A tensor or a shard that the file promises is missing."""


class MissingExtra(Keras3ConvError, ImportError):
    """A package that an optional feature needs is not installed."""

    def __init__(self, feature: str, package: str, extra: str) -> None:
        """Names the feature, the missing package and the command that installs it."""
        super().__init__(f'{feature} needs {package}: pip install "keras3conv[{extra}]"')


@dataclass(frozen=True, kw_only=True)
class Problem:
    """One fact that stands in the way: where on each side, what, and the calls that would settle it."""

    fact: str
    torch: str = ""
    keras: str = ""
    fixes: tuple[str, ...] = ()

    @classmethod
    def on(cls, side: str, path: str, fact: str, fixes: tuple[str, ...] = ()) -> "Problem":
        """A problem of one side, "torch" or "keras"."""
        if side == "torch":
            return cls(torch=path, fact=fact, fixes=fixes)
        return cls(keras=path, fact=fact, fixes=fixes)

    @property
    def where(self) -> str:
        """Where it is, in the order torch, keras."""
        if self.torch and self.keras:
            return f"{self.torch}  <->  {self.keras}"
        return self.torch or self.keras

    @property
    def side(self) -> str:
        """The side in brackets when only one is concerned, else nothing."""
        if bool(self.torch) == bool(self.keras):
            return ""
        return "(torch)" if self.torch else "(keras)"
