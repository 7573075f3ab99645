"""Load all handlers (functions that convert calls): import every module that has some, which registers them."""

from functools import cache
from importlib import import_module
from pathlib import Path

_PACKAGE = "keras3conv.builder.to_keras"


@cache
def load() -> None:
    """Import the modules with handlers (functions that convert calls); later calls do nothing."""
    for path in sorted(Path(__file__).parent.glob("operations_*.py")):
        import_module(f"{_PACKAGE}.{path.stem}")


__all__ = ["load"]
