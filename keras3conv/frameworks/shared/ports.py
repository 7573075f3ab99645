"""Remember which live models got their weights from a transfer (ports).

If a port and its source differ, the fix that a report proposes changes the port, not its source.
"""

import weakref
from pathlib import Path
from typing import Any

_PORTS: dict[int, "weakref.ref[Any]"] = {}
"""The models, by their `id`; a model is forgotten when Python deletes it."""

_MANIFEST = ".manifest.json"


def remember_port(port: Any, source: Any) -> None:
    """Remember that the weights of a live model come from another model, or from a file.

    Args:
        port: The live model that got the weights.
        source: The model or file that they come from.
    """
    _PORTS.pop(id(source), None)
    number = id(port)
    _PORTS[number] = weakref.ref(port, lambda _: _PORTS.pop(number, None))


def is_port(source: Any) -> bool:
    """Return whether a transfer wrote the weights of a live model, or of a file, which then has a manifest."""
    if isinstance(source, Path):
        return source.with_name(source.name + _MANIFEST).is_file()
    reference = _PORTS.get(id(source))
    return reference is not None and reference() is source
