"""PyTorch: every operation on tensors is told of while a model runs."""

from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from keras3conv.frameworks.shared.flow import Follower
from keras3conv.frameworks.shared.recording import Flattened, flatten

MIXES_FEATURES = frozenset({"linear", "matmul", "__matmul__", "mm", "addmm", "einsum", "bilinear", "cdist"})
"""After these a feature is no longer one of the values that were flattened."""


class Following(TorchFunctionMode):
    """Tells a follower of every operation on tensors while it is entered."""

    def __init__(self, follower: Follower) -> None:
        super().__init__()
        self.follower = follower

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        made = [tensor for _, tensor in flatten(result, _is_tensor)]
        if made or result is None:  # what returns nothing changes its first argument: `x[0] = y`
            given = [tensor for _, tensor in flatten((args, kwargs or {}), _is_tensor)]
            self.follower.operation(given, made or given[:1])
        return result


class FollowingFlattening(Following):
    """Notes every reshape too, and what is done element by element to its result."""

    def __init__(self, flattened: Flattened, follower: Follower) -> None:
        super().__init__(follower)
        self.flattened = flattened

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = super().__torch_function__(func, types, args, kwargs)
        tensors = isinstance(result, torch.Tensor) and args and isinstance(args[0], torch.Tensor)
        if tensors and result.ndim == 2 and getattr(func, "__name__", "") not in MIXES_FEATURES:
            self.flattened.note(args[0], result)
        return result


def _is_tensor(value: object) -> bool:
    return isinstance(value, torch.Tensor)
