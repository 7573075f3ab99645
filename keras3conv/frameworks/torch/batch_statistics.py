"""Find the batch normalisations of a torch module that use the statistics of the batch in training mode."""

from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from keras3conv.errors import RAISED_BY_MODELS
from keras3conv.frameworks.torch import module as torch_side
from keras3conv.frameworks.torch.modes import generators_kept
from keras3conv.frameworks.torch.observing import running_tensors, substituted
from keras3conv.frameworks.torch.tensors import named_tensors

_TRAINING = 5
"""The index of `training` among the arguments of `F.batch_norm`; the layer's tensors have smaller indices."""


def batch_statistics(module: nn.Module, inputs: object) -> Mapping[str, bool]:
    """Return whether each batch normalisation uses the statistics of the batch in training mode, by tensor path.

    The module runs once in training mode, as `module.train()` sets it: a layer may be frozen by an own `train`, or be
    called as `F.batch_norm(..., training=False)`. Its tensors, flags and random generators are unchanged afterwards.

    Args:
        module: The module.
        inputs: A tensor or array, a tuple of positional arguments, or a dict of keyword arguments.

    Returns:
        A dict from the path of each tensor of a batch normalisation that ran to True if the layer uses the statistics
        of the batch, and to False if it uses the stored ones: {"bn1.weight": True}. Empty if the module raises in
        training mode, because it needs more samples, say.
    """
    args, kwargs = torch_side.call_arguments(module, inputs)
    values = running_tensors(module, {}, float64=False)
    tensors = dict(named_tensors(module)) | values
    calls = _Calls()
    with ExitStack() as contexts:
        for mode in (torch.no_grad(), generators_kept(), torch_side.evaluating(module), substituted(module, values)):
            contexts.enter_context(mode)
        module.train()
        contexts.enter_context(calls)
        try:
            module(*args, **kwargs)
        except RAISED_BY_MODELS:
            return {}
    return {path: calls.from_batch[id(tensor)] for path, tensor in tensors.items() if id(tensor) in calls.from_batch}


class _Calls(TorchFunctionMode):
    """Records the calls of `F.batch_norm`.

    Attributes:
        from_batch: For each tensor of a layer, by its id, whether a call takes the statistics of the batch.
    """

    def __init__(self) -> None:
        super().__init__()
        self.from_batch: dict[int, bool] = {}

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is nn.functional.batch_norm:
            training = args[_TRAINING] if len(args) > _TRAINING else kwargs.get("training", False)
            self._note((*args[1:_TRAINING], *kwargs.values()), taken=bool(training))
        return func(*args, **kwargs)

    def _note(self, tensors: Iterable[Any], *, taken: bool) -> None:
        for tensor in tensors:
            if isinstance(tensor, torch.Tensor):
                self.from_batch[id(tensor)] = taken or self.from_batch.get(id(tensor), False)
