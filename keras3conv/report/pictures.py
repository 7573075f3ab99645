"""Show samples in a report: an image with the answers of both models."""

import base64
from dataclasses import dataclass

from keras3conv.errors import InputError

_PNG = b"\x89PNG\r\n\x1a\n"


@dataclass(frozen=True, kw_only=True)
class Answer:
    """The answers of both sides at one rank.

    Attributes:
        first: The answer of the torch side.
        first_score: The score of that answer.
        second: The answer of the Keras side.
        second_score: The score of that answer.
    """

    first: str
    first_score: float
    second: str
    second_score: float

    @property
    def alike(self) -> bool:
        """Whether both sides have the same answer at this rank."""
        return self.first == self.second


@dataclass(frozen=True, kw_only=True)
class Picture:
    """An image with the answers of both sides, the best first.

    Attributes:
        png: The bytes of a PNG file.
        caption: The caption.
        answers: The answers of both sides, rank by rank.

    Raises:
        InputError: The bytes are not a PNG file.
    """

    png: bytes
    caption: str
    answers: tuple[Answer, ...] = ()

    def __post_init__(self) -> None:
        if not self.png.startswith(_PNG):
            raise InputError(f"picture {self.caption!r} is not a PNG file")

    @property
    def alike(self) -> bool:
        """Whether the best answers of both sides are the same."""
        return not self.answers or self.answers[0].alike

    @property
    def base64(self) -> str:
        """The file in base64, for JSON and for the HTML page."""
        return base64.b64encode(self.png).decode()
