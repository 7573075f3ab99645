"""Make torchvision importable with a CPU build of torch.

The wheel on PyPI is built for CUDA: its library of compiled operators cannot be loaded without it, and the import ends
where shapes are registered for operators that only this library defines. Declaring them first is enough: the models of
classification use none.
"""

from functools import cache
from typing import Any

import torch


@cache  # the declarations last as long as the object that made them
def declare_operators() -> Any:
    """Declare the operators for which torchvision registers shapes, unless they exist."""
    if hasattr(torch.ops.torchvision, "nms"):
        return None
    library: Any = vars(torch.library)["Library"]("torchvision", "DEF")
    for name in ("nms", "qnms"):
        library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    return library


def torchvision_models() -> Any:
    """Return the module `torchvision.models`."""
    declare_operators()
    from torchvision import models

    return models
