"""Decode the header messages with the shape, the dtype and the fill value of an HDF5 dataset, as h5py writes them."""

from collections.abc import Iterator
from functools import lru_cache

from keras3conv.formats.safe.hdf5_image import require
from keras3conv.transforms import Shape

_FLOATS = {2: (10, 5, 15), 4: (23, 8, 127), 8: (52, 11, 1023)}
"""For each size of a floating-point number in bytes: the bits of the mantissa and the exponent, and the bias."""

_MARKED = b"\x15\0\0\0\x02\0\0\0"
"""The description of two bytes without a meaning, which Keras marks as bfloat16."""

BFLOAT16 = "V2"


def _numbers() -> Iterator[tuple[bytes, str]]:
    """Yield the bytes that describe each numeric HDF5 type that numpy has, with the name of the numpy dtype: "<f4"."""
    for size in (1, 2, 4, 8):
        for order, mark in enumerate("<>" if size > 1 else "|"):
            ends = size.to_bytes(4, "little") + b"\0\0" + (8 * size).to_bytes(2, "little")
            for is_signed, kind in enumerate("ui"):
                yield (bytes([0x10, order | is_signed << 3, 0, 0]) + ends).ljust(16, b"\0"), f"{mark}{kind}{size}"
            if size in _FLOATS:
                mantissa, exponent, bias = _FLOATS[size]
                start = bytes([0x11, 0x20 | order, 8 * size - 1, 0])
                places = bytes([mantissa, exponent, 0, mantissa]) + bias.to_bytes(4, "little")
                yield (start + ends + places).ljust(24, b"\0"), f"{mark}f{size}"


NUMBERS = {**dict(_numbers()), _MARKED: BFLOAT16}
"""The name of the numpy dtype of each usual type, by its description."""


@lru_cache(4096)
def sizes_of(space: bytes) -> Shape:
    """Return the shape in the bytes of a dataspace message.

    Raises:
        UnusualError: The dataset may grow, or the message is damaged.
    """
    require(len(space) >= 8 and space[0] == 1 and space[2] <= 1 and not any(space[3:8]))
    rank, has_largest = space[1], space[2]
    require(len(space) == 8 * (1 + rank * (1 + has_largest)))
    sizes, largest = space[8 : 8 + 8 * rank], space[8 + 8 * rank :]
    require(not has_largest or sizes == largest)
    return tuple(int.from_bytes(sizes[place : place + 8], "little") for place in range(0, len(sizes), 8))


def check_fill(fill: bytes) -> None:
    """Raise `UnusualError` if the bytes of a fill value message define a fill value."""
    require(len(fill) == 8 and fill[0] in (1, 2) and 1 <= fill[1] <= 3 and fill[2] <= 2 and fill[3] <= 1)
    require(not any(fill[4:]))
