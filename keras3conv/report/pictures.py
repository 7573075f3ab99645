"""Define the pictures of a report: sample images with the predictions of both models."""

import base64
from dataclasses import dataclass

from keras3conv.errors import InputError

_PNG = b"\x89PNG\r\n\x1a\n"


@dataclass(frozen=True, kw_only=True)
class Answer:
    """The predicted classes of both models at one rank (1 is the best score).

    Attributes:
        first: The class that the torch model predicts.
        first_score: The score that the torch model gives that class.
        second: The class that the Keras model predicts.
        second_score: The score that the Keras model gives that class.
    """

    first: str
    first_score: float
    second: str
    second_score: float

    @property
    def alike(self) -> bool:
        """True if both models predict the same class at this rank."""
        return self.first == self.second


@dataclass(frozen=True, kw_only=True)
class Picture:
    """An image with the predictions of both models.

    Attributes:
        png: The bytes of a PNG file.
        caption: The caption.
        answers: The predictions of both models, one entry for each rank, the best rank first.

    Raises:
        InputError: The bytes are not a PNG file.
    """

    png: bytes
    caption: str
    answers: tuple[Answer, ...] = ()

    def __post_init__(self) -> None:
        if not self.png.startswith(_PNG):
            raise InputError(f"the picture {self.caption!r} must be the bytes of a PNG file, but is not")

    @property
    def alike(self) -> bool:
        """True if both models predict the same class at the best rank, or if the picture has no predictions."""
        return not self.answers or self.answers[0].alike

    @property
    def base64(self) -> str:
        """The PNG bytes encoded in base64, for the JSON and HTML reports."""
        return base64.b64encode(self.png).decode()
