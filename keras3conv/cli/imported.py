"""Remember the code of --import of the running command, which a suggested command repeats."""

from contextvars import ContextVar
from shlex import quote

imports: ContextVar[tuple[str, ...]] = ContextVar("imports", default=())
"""The modules and Python files of --import of the running command."""


def import_options() -> str:
    """Return the options of the running command that import code: " --import layers.py"; empty without any."""
    return "".join(f" --import {quote(one)}" for one in imports.get())
