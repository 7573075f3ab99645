"""Remember which live models got their weights from a transfer; such a model is called a port.

If a port and the model that its weights come from differ, a report proposes to change the port.
"""

import weakref
from pathlib import Path
from typing import Any

_PORTS: dict[int, "weakref.ref[Any]"] = {}
"""The live models that got their weights from a transfer, by `id`; a model is forgotten when Python deletes it."""

_MANIFEST = ".manifest.json"


def remember_port(port: Any, source: Any) -> None:
    """Remember that a live model is a port: its weights come from another model, or from a file.

    Args:
        port: The live model that got the weights.
        source: The model or file that they come from.
    """
    _PORTS.pop(id(source), None)
    number = id(port)
    _PORTS[number] = weakref.ref(port, lambda _: _PORTS.pop(number, None))


def is_port(source: Any) -> bool:
    """Return whether a transfer wrote the weights of a model or file, which is then a port.

    Beside a file that it writes, a transfer writes a manifest; a file is a port if there is one.

    Args:
        source: The live model, or the path of a file.
    """
    if isinstance(source, Path):
        return source.with_name(source.name + _MANIFEST).is_file()
    reference = _PORTS.get(id(source))
    return reference is not None and reference() is source
