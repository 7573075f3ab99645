"""Samples as a reader sees them: an image, and what each side answers to it."""

import base64
from dataclasses import dataclass

from keras3conv.errors import InputError

_PNG = b"\x89PNG\r\n\x1a\n"


@dataclass(frozen=True, kw_only=True)
class Answer:
    """One rank of the answers: what stands there on the first side, and what on the second.

    Attributes:
        first: The answer of the torch side.
        first_score: Its score there.
        second: The answer of the Keras side.
        second_score: Its score there.
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
        caption: What it shows.
        answers: The answers of both sides, rank by rank.

    Raises:
        InputError: The bytes are no PNG file.
    """

    png: bytes
    caption: str
    answers: tuple[Answer, ...] = ()

    def __post_init__(self) -> None:
        if not self.png.startswith(_PNG):
            raise InputError(f"picture {self.caption!r} is no PNG file")

    @property
    def alike(self) -> bool:
        """Whether the best answers of both sides are the same."""
        return not self.answers or self.answers[0].alike

    @property
    def base64(self) -> str:
        """The file as text, for JSON and for a page that has everything in it."""
        return base64.b64encode(self.png).decode()
