"""An experiment: one module of a model run again with other attributes, to see whether they count."""

import copy
from collections.abc import Mapping
from typing import Any

from torch import nn

from keras3conv.errors import ModelError
from keras3conv.frameworks import torch_side
from keras3conv.transforms import Array, Arrays


def run_with(
    model: nn.Module, path: str, attributes: Mapping[str, Any], inputs: Arrays, tensors: Mapping[str, Array]
) -> Arrays | None:
    """Runs one module of a model in float64 with other attributes; the module itself stays as it is.

    Args:
        model: The model.
        path: The path of the module.
        attributes: The attributes to run with, in the place of its own.
        inputs: What it is called with: positional arguments.
        tensors: Values of the model's tensors by their paths; those of this module are taken.

    Returns:
        What it returned, flat; None if it cannot run so.
    """
    module = copy.copy(model.get_submodule(path))
    for shared in ("_parameters", "_buffers", "_modules"):  # what is set on the copy must not reach the module
        object.__setattr__(module, shared, getattr(module, shared).copy())
    own = {name.removeprefix(f"{path}."): array for name, array in tensors.items() if name.startswith(f"{path}.")}
    try:
        for name, value in attributes.items():
            setattr(module, name, value)
        recording = torch_side.run(module, inputs, tensors=own, float64=True, watch=False)
    except (ModelError, TypeError, AttributeError):  # no value for this attribute, or none that the module runs with
        return None
    return tuple(recording.outputs.values())


__all__ = ["run_with"]
