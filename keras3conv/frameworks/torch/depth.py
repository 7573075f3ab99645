"""Find modules for stochastic depth: they return their input in evaluation mode and drop whole samples in training.

In evaluation mode `torch.export` records no operation for such a module. While the graph is exported, the module
therefore calls a dropout without effect, which appears in the graph.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn
from torch.nn import functional

from keras3conv.errors import RAISED_BY_MODELS
from keras3conv.frameworks.torch.tensors import named_modules

_EXAMPLES = 64


@contextmanager
def captured_depth(module: nn.Module) -> Iterator[dict[str, float]]:
    """Make every module for stochastic depth call a dropout inside the `with` block; yield their rates by path."""
    found = [(path, type(child), _rate(child)) for path, child in named_modules(module)]
    kinds = {kind for _, kind, rate in found if rate}
    # A module of such a class with a rate of zero, as in the first block, stays a dropout: all blocks are then alike.
    rates = {path: rate or 0.0 for path, kind, rate in found if rate or (rate is not None and kind in kinds)}
    children = [(module.get_submodule(path), rate) for path, rate in rates.items()]
    try:
        for child, rate in children:
            vars(child)["forward"] = _dropout(rate)
        yield rates
    finally:
        for child, _ in children:
            vars(child).pop("forward", None)


def _dropout(rate: float) -> object:
    return lambda x, *others, **options: functional.dropout(x, rate, training=False)


def _rate(child: nn.Module) -> float | None:
    """Return the rate at which a module drops whole samples in training; None if the module does something else."""
    is_bare = not (child._modules or child._parameters or child._buffers)
    if not is_bare or type(child).__module__.startswith("torch.nn."):
        return None
    candidates = [value for value in vars(child).values() if isinstance(value, float) and 0.0 <= value < 1.0]
    if not candidates:
        return None
    ones, was_training = torch.ones(_EXAMPLES, 3, 2), child.training
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            same = child.eval()(ones)
            dropped = child.train()(ones)
    except RAISED_BY_MODELS:  # the module does not take a tensor
        return None
    finally:
        child.train(was_training)
    if not all(isinstance(one, torch.Tensor) and one.shape == ones.shape for one in (same, dropped)):
        return None
    if torch.equal(same, ones) and torch.equal(dropped, ones):
        return 0.0 if 0.0 in candidates else None
    rows = dropped.flatten(1)
    whole = bool((rows == rows[:, :1]).all()) and rows[:, 0].unique().numel() == 2 and bool((rows == 0).any())
    if not torch.equal(same, ones) or not whole:
        return None
    scale = float(rows.max())
    return next((rate for rate in candidates if rate and abs(scale * (1.0 - rate) - 1.0) < 1e-6), None)
