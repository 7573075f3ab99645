"""Keep `nn.Transformer` from reading the values of its mask while its graph is exported."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch.nn.modules import transformer


@contextmanager
def causal_masks_unread() -> Iterator[None]:
    """Make `nn.TransformerEncoder` and `nn.TransformerDecoder` apply a mask without testing if it is causal.

    They compare a mask with the causal one, to choose a faster kernel. This branch depends on values, which
    `torch.export` cannot follow. Without the comparison the mask itself is applied, which gives the same values.
    """
    name = "_detect_is_causal_mask"
    original = getattr(transformer, name, None)
    if original is None:
        yield
        return

    def as_given(_mask: Any, is_causal: bool | None = None, _size: int | None = None) -> bool:
        return is_causal is True

    setattr(transformer, name, as_given)
    try:
        yield
    finally:
        setattr(transformer, name, original)
