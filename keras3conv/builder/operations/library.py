"""Load all handlers (functions that convert calls) by importing every module of this package, which registers them."""

from functools import cache
from importlib import import_module
from pkgutil import iter_modules

from keras3conv.builder import operations


@cache
def load() -> None:
    """Import all modules that define handlers (functions that convert calls); only the first call does so."""
    for module in iter_modules(operations.__path__):
        import_module(f"{operations.__name__}.{module.name}")
