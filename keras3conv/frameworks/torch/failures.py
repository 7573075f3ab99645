"""Find the module and the line of code that `torch.export` cannot capture, and the reason."""

import linecache
import traceback
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

import torch
from torch import nn
from torch.fx.experimental.symbolic_shapes import GuardOnDataDependentSymNode
from torch.nn.utils.rnn import PackedSequence

from keras3conv.errors import message_of
from keras3conv.frameworks.torch.observing import Arguments
from keras3conv.frameworks.torch.tensors import named_modules
from keras3conv.rules.obstacle import BRANCHES

_OTHERS = (str(Path(torch.__file__).parent), str(Path(__file__).parents[2]), "<")
"""The prefixes of files with code that is not the user's: in torch, in this package, and generated functions."""

_PACKED = "takes a packed sequence, whose lengths are data: call it on the padded sequence"

_REASONS = {
    "pack_padded_sequence": "packs a sequence by its lengths, which are data: call the layer on the padded sequence",
    "pack_sequence": "packs sequences, whose lengths are data: call the layer on a padded sequence",
    "pad_packed_sequence": "pads a packed sequence to a length that is data: call the layer on the padded sequence",
}
"""For each torch function that torch.export cannot capture, the reason and an alternative."""


def place_of(error: BaseException, module: nn.Module) -> tuple[str, str]:
    """Return the path of the innermost module that was running when an error was raised, and the user's line of code.

    The line is text: 'File "/home/me/net.py", line 12, in forward if x.sum() > 0:'.
    """
    paths = {id(child): path for path, child in reversed(named_modules(module))}
    found, line = "", ""
    for frame, number in _frames(error):
        found = paths.get(id(frame.f_locals.get("self")), found)
        file = frame.f_code.co_filename
        if not file.startswith(_OTHERS):
            line = f'File "{file}", line {number}, in {frame.f_code.co_name} {linecache.getline(file, number).strip()}'
    return found, line


def reason_of(error: BaseException, arguments: Arguments | None) -> str:
    """Return the reason why torch.export cannot capture a module, as one line of text for the user.

    Args:
        error: The exception that torch.export raised.
        arguments: The arguments of the module; None if they are unknown.
    """
    if arguments is not None and any(
        isinstance(one, PackedSequence) for one in (*arguments[0], *arguments[1].values())
    ):
        return _PACKED
    if any(isinstance(one, GuardOnDataDependentSymNode) for one in _chain(error)):
        return BRANCHES
    functions = {frame.f_code.co_name for frame, _ in _frames(error)}
    known = next((reason for name, reason in _REASONS.items() if name in functions), "")
    lines = [line.strip() for line in message_of(error).splitlines() if line.strip()]
    return known or f"torch.export cannot capture it: {lines[0] if lines else type(error).__name__}"


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yield an exception, then the one that it was raised from or while it was handled, and so on."""
    following: BaseException | None = error
    while following is not None:
        yield following
        following = following.__cause__ or following.__context__


def _frames(error: BaseException) -> Iterator[tuple[FrameType, int]]:
    """Yield the stack frames of the exception that was raised first (the cause of the others), the innermost last."""
    *_, first = _chain(error)
    return traceback.walk_tb(first.__traceback__)
