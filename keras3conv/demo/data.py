"""Load the digits of scikit-learn: 1,797 images of 8 x 8 pixels, without a download."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from keras3conv.errors import MissingExtra

HELD_OUT = 360
"""The number of test images, which are not used for training."""


@dataclass(frozen=True, kw_only=True)
class Digits:
    """Images (channels last, values between 0 and 1) with their labels."""

    images: NDArray[np.float32]
    labels: NDArray[np.int64]


def load() -> tuple[Digits, Digits]:
    """Return the training digits and the held-out digits, always with the same split.

    Raises:
        MissingExtra: scikit-learn is not installed.
    """
    try:
        from sklearn.datasets import load_digits
    except ModuleNotFoundError as error:
        raise MissingExtra("the demo", "sklearn") from error
    digits = load_digits()
    order = np.random.default_rng(0).permutation(len(digits.target))
    images = (digits.images[order] / 16).astype(np.float32)[..., np.newaxis]
    labels = digits.target[order].astype(np.int64)
    train, held_out = slice(HELD_OUT, None), slice(0, HELD_OUT)
    return Digits(images=images[train], labels=labels[train]), Digits(images=images[held_out], labels=labels[held_out])
