"""Code that was generated becomes a module, by Python's own import machinery. Only text that we wrote comes here."""

import importlib.abc
import importlib.util
from types import ModuleType

from torch import nn


class _Text(importlib.abc.InspectLoader):
    """Loads a module from its text; tracebacks and `inspect` find the text too."""

    def __init__(self, text: str) -> None:
        self.text = text

    def get_source(self, fullname: str) -> str:
        """The text."""
        return self.text


def module_of(text: str, name: str) -> ModuleType:
    """The Python module of a generated text, in a namespace of its own.

    Args:
        text: What `torch_source.write` wrote.
        name: What tracebacks call it.
    """
    loader = _Text(text)
    spec = importlib.util.spec_from_loader(name, loader, origin=f"<{name}>")
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module


def instance_of(text: str, name: str = "model") -> nn.Module:
    """The `Model` of a generated text, in evaluation mode."""
    made = module_of(text, name).Model()
    assert isinstance(made, nn.Module)
    return made.eval()
