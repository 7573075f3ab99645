"""Encode images as small PNG files, for reports that embed them."""

import struct
import zlib

import numpy as np
from numpy.typing import NDArray

from keras3conv.transforms import Array

_LARGEST = 96
"""Longest side of a thumbnail in pixels, so that a report with a dozen images stays small."""


def png_of(image: Array) -> bytes:
    """Return a PNG thumbnail of an image; the smallest value becomes black, the largest value white.

    Args:
        image: Shape (height, width, 1) or (height, width, 3), any real dtype and range.
    """
    pixels = _to_bytes(_shrunk(image.astype(np.float64)))
    height, width, channels = pixels.shape
    rows = b"".join(b"\0" + row.tobytes() for row in pixels)
    header = struct.pack(">IIBBBBB", width, height, 8, 0 if channels == 1 else 2, 0, 0, 0)
    chunks = (_chunk(b"IHDR", header), _chunk(b"IDAT", zlib.compress(rows, 9)), _chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def _shrunk(image: NDArray[np.float64]) -> NDArray[np.float64]:
    """Shrink an image to at most `_LARGEST` pixels a side by averaging square cells; a remainder at the edge is cut."""
    step = -(-max(image.shape[:2]) // _LARGEST)
    height, width = (max(1, size // step) for size in image.shape[:2])
    cells = image[: height * step, : width * step]
    if cells.shape[:2] != (height * step, width * step):
        return image[::step, ::step]
    return np.asarray(cells.reshape(height, step, width, step, -1).mean(axis=(1, 3)))


def _to_bytes(image: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Scale the finite values of an image to 0...255."""
    finite = image[np.isfinite(image)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
    scaled = (np.nan_to_num(image, posinf=high, neginf=low) - low) / ((high - low) or 1.0)
    return np.ascontiguousarray(np.round(255 * np.clip(scaled, 0.0, 1.0)), np.uint8)


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
