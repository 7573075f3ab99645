"""Write the constructor arguments of a layer as source code, for either framework."""

from collections.abc import Callable
from typing import Any

from keras3conv.builder.program.structure import simplified
from keras3conv.builder.source.formatting import literal
from keras3conv.frameworks.torch.constructors import REQUIRED, constructor
from keras3conv.rules.rule import LayerSpec

_WINDOWS = ("kernel_size", "pool_size")
"""The pooling arguments whose value is also the default of the stride, so that an equal stride can be left out."""

_LIBRARIES = ("torch.", "keras.")


def arguments(spec: LayerSpec, write: Callable[[Any], str] = literal) -> list[str]:
    """Return the arguments of a layer's constructor as source code, one text for each argument.

    Arguments without a default are positional; the others are keywords, and left out where they equal the default.

    Args:
        spec: The layer.
        write: Returns the source code of a value.
    """
    parameters = constructor(spec.kind)
    config = {name: simplified(name, value, spec.kind) for name, value in spec.config.items()}
    window = next((config[name] for name in _WINDOWS if name in config), None)
    # In classes of keras3conv, stride=None does not mean the window size.
    strides = ("stride", "strides") if spec.kind.startswith(_LIBRARIES) else ()
    given = []
    for name, default in parameters.items():
        if name not in config:
            continue
        value = config[name]
        is_window = name in strides and default is None and value == window
        if default is REQUIRED:
            given.append(write(value))
        elif value != simplified(name, default, spec.kind) and not is_window:
            given.append(f"{name}={write(value)}")
    extra = [name for name in config if name not in parameters]
    return [*given, *(f"{name}={write(config[name])}" for name in extra if "kwargs" in parameters)]
