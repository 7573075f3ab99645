"""Compute the CRC-32C of bytes with numpy: TensorFlow stores it for every tensor, and Python has no function for it.

Many bytes are divided into lanes, pieces of equal length. numpy computes the CRC registers of all lanes together, two
bytes at a time. To join two lanes, the register of the first is advanced by as many zero bytes as a lane has, and added
(XOR) to that of the second. The advance is linear in the bits of the register, so it is looked up in a table.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from keras3conv.transforms import Array

_POLYNOMIAL = np.uint32(0x82F63B78)
_BLOCK = 16 << 20
_LANE = 1024
"""The maximum number of bytes in a lane (one of the pieces that are processed together), to fit the cache."""

_MASK = 0xA282EAD8
_ALL = 0xFFFFFFFF


def crc32c(data: Any) -> int:
    """Return the CRC-32C (Castagnoli) of a bytes-like object.

    Example:
        >>> hex(crc32c(b"123456789"))
        '0xe3069283'
    """
    view = np.frombuffer(data, np.uint8)
    state = _ALL
    for start in range(0, len(view), _BLOCK):
        state = _advanced(state, view[start : start + _BLOCK])
    return state ^ _ALL


def masked(checksum: int) -> int:
    """Return a CRC-32C as TensorFlow stores it beside the data: rotated right by 15 bits, plus a constant."""
    return ((checksum >> 15 | checksum << 17) + _MASK) & _ALL


def _advanced(state: int, data: Array) -> int:
    """Return the state of the CRC register after it has processed further bytes.

    Args:
        state: The state before.
        data: The bytes.
    """
    length = min(_LANE, 1 << max(1, len(data).bit_length() // 2))
    lanes = len(data) // length
    if lanes > 1:
        words = data[: lanes * length].reshape(lanes, length).view("<u2")
        states = np.zeros(lanes, np.uint32)
        table = _words()
        for word in range(length // 2):
            states = table[(states ^ words[:, word]) & 0xFFFF] ^ (states >> 16)
        tables = _zeros(length)
        for lane in states.tolist():
            state = _through(state, tables) ^ lane
        data = data[lanes * length :]
    single = _bytes()
    for byte in data.tolist():
        state = single[(state ^ byte) & 0xFF] ^ state >> 8
    return state


def _through(state: int, tables: Sequence[Sequence[int]]) -> int:
    """Return the state of the CRC register after it has processed a fixed number of zero bytes.

    Args:
        state: The state before.
        tables: Four tables, as `_zeros` returns them: table i has the result for each value of byte i of the state.
    """
    first, second, third, fourth = tables
    return first[state & 0xFF] ^ second[state >> 8 & 0xFF] ^ third[state >> 16 & 0xFF] ^ fourth[state >> 24]


@lru_cache(1)
def _words() -> Array:
    """Return, for every pair of bytes, the change of the CRC register when it processes them."""
    table: Array = np.arange(1 << 16, dtype=np.uint32)
    for _ in range(16):
        table = (table >> 1) ^ np.where(table & 1, _POLYNOMIAL, np.uint32(0))
    return table


@lru_cache(1)
def _bytes() -> list[int]:
    """Return, for every byte, the change of the CRC register when it processes the byte."""
    table: Array = np.arange(1 << 8, dtype=np.uint32)
    for _ in range(8):
        table = (table >> 1) ^ np.where(table & 1, _POLYNOMIAL, np.uint32(0))
    return [int(value) for value in table]


@lru_cache(32)
def _zeros(length: int) -> list[list[int]]:
    """Return four tables of 256 states: table i has, for each value of byte i, the CRC register after `length` zeros.

    Args:
        length: The number of zero bytes to process, which is even.
    """
    table = _words()
    states = (np.arange(1 << 8, dtype=np.uint32)[None, :] << np.array([[0], [8], [16], [24]], np.uint32)).reshape(-1)
    for _ in range(length // 2):
        states = table[states & 0xFFFF] ^ (states >> 16)
    return [[int(value) for value in row] for row in states.reshape(4, 256)]
