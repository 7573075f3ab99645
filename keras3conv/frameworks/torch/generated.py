"""Import generated source code as a Python module. Only source code that keras3conv wrote is imported."""

import importlib.abc
import importlib.util
from pathlib import Path
from types import ModuleType

from torch import nn


class _Text(importlib.abc.InspectLoader):
    """A module loader that executes a source text; it lets tracebacks and `inspect` show the text."""

    def __init__(self, text: str) -> None:
        self.text = text

    def get_source(self, fullname: str) -> str:
        """Return the source text of the generated module."""
        return self.text


def module_of(text: str, name: str, path: Path | None = None) -> ModuleType:
    """Execute generated source code, and return it as a Python module.

    Args:
        text: The source code of a module, which keras3conv generated.
        name: The name of the module in tracebacks.
        path: The value of `__file__` in the code, which loads its constants from the same folder.
    """
    loader = _Text(text)
    spec = importlib.util.spec_from_loader(name, loader, origin=f"<{name}>")
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    if path is not None:
        module.__file__ = str(path)
    loader.exec_module(module)
    return module


def instance_of(text: str) -> nn.Module:
    """Return an instance of the class `Model` in a generated text, in evaluation mode."""
    made = module_of(text, "model").Model()
    assert isinstance(made, nn.Module)
    return made.eval()
