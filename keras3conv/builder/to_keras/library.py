"""Load all handlers (functions that convert calls) by importing every module of this package that defines some."""

from functools import cache
from importlib import import_module
from pathlib import Path

_PACKAGE = "keras3conv.builder.to_keras"


@cache
def load() -> None:
    """Import all modules that define handlers (functions that convert calls); only the first call does so."""
    for path in sorted(Path(__file__).parent.glob("operations_*.py")):
        import_module(f"{_PACKAGE}.{path.stem}")
