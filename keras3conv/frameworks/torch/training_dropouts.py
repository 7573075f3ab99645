"""Find the dropouts that a module applies in training only, which `torch.export` does not see in evaluation mode.

An attention often gets its rate from the mode of the module: `dropout_p=self.p if self.training else 0.0`. The module
is called once in training mode, and every dropout is noted with the module that calls it.
"""

import inspect
import warnings
from collections import Counter
from collections.abc import Collection, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from keras3conv.errors import RAISED_BY_MODELS
from keras3conv.frameworks.torch.modes import attributes_restored
from keras3conv.frameworks.torch.observing import forward_calls
from keras3conv.frameworks.torch.tensors import named_modules

ATTENTION = "scaled_dot_product_attention"
_NAMES = (ATTENTION, "dropout", "softmax")
"""The names of the operators that may have a dropout in training which is not visible in evaluation mode."""

Place = tuple[str, str, int]
"""A call of an operator: the path of the module, the name of the operator, and the number of its call there."""


@dataclass(frozen=True, kw_only=True)
class Dropouts:
    """The dropouts that a module applies in training, with their rates.

    A call of an operator is identified by (path of the module, name of the operator, number of its call in the module):
    ("block.attention", "softmax", 0).

    Attributes:
        rates: The dropout rate by call: for an attention or a dropout its own rate, for a softmax that of the dropout
            which follows it.
        after: For each call of a softmax that a dropout follows, the call of this dropout.
        everywhere: The rate of the dropout on the attention weights, by the path of each `nn.MultiheadAttention`.
    """

    rates: Mapping[Place, float] = field(default_factory=dict)
    after: Mapping[Place, Place] = field(default_factory=dict)
    everywhere: Mapping[str, float] = field(default_factory=dict)

    def beside(self, captured: Collection[Place]) -> "Dropouts":
        """Return the dropouts without the rates of those softmaxes whose dropout is an operator of the exported module.

        The rate of a dropout after a softmax is recorded for the softmax. Together with the operator, the dropout would
        be applied twice.

        Args:
            captured: The calls of operators in the exported module.
        """
        kept = {place: rate for place, rate in self.rates.items() if self.after.get(place) not in captured}
        return replace(self, rates=kept)

    def rate(self, place: Place) -> float:
        """Return the dropout rate of an attention, softmax or dropout operator in training; 0 if it has no dropout.

        Args:
            place: The call: the path of the module, the name of the operator, and the number of its call in this
                module.
        """
        path, name, _ = place
        return self.rates.get(place, 0.0) or (self.everywhere.get(path, 0.0) if name != "dropout" else 0.0)


def operator_name(kind: str) -> str:
    """Return "softmax" for "aten.softmax.int"; empty for an operator that is no softmax, attention or dropout."""
    name = kind.split(".")[1].strip("_")
    return name if name in _NAMES else ""


def training_dropouts(module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Dropouts:
    """Call a module once in training mode and return the calls of dropout functions, with their rates.

    Afterwards the module is as it was before. If it raises in training mode, the result is empty.
    """
    recorder = _Recorder()
    modules = named_modules(module)
    buffers = [(buffer, buffer.clone()) for buffer in module.buffers()]
    try:
        with ExitStack() as contexts:
            for context in (attributes_restored(modules), torch.no_grad(), torch.random.fork_rng(devices=[])):
                contexts.enter_context(context)
            contexts.enter_context(forward_calls(module, running=recorder.running))
            contexts.enter_context(recorder)
            module.train()
            module(*args, **kwargs)
    except RAISED_BY_MODELS:
        return Dropouts()
    finally:
        with torch.no_grad():
            for buffer, before in buffers:
                buffer.copy_(before)
    return Dropouts(rates=recorder.rates, after=recorder.after, everywhere=recorder.everywhere)


class _Recorder(TorchFunctionMode):
    """Records the dropout calls of a run, by the module that calls them."""

    def __init__(self) -> None:
        super().__init__()
        self.rates: dict[Place, float] = {}
        self.after: dict[Place, Place] = {}
        self.everywhere: dict[str, float] = {}
        self.running: list[str] = []
        self._calls: Counter[tuple[str, str]] = Counter()
        self._softmax: dict[int, tuple[Place, torch.Tensor]] = {}

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        place = self._placed(name) if name in _NAMES else None
        made = func(*args, **kwargs)
        if name == "softmax" and place is not None and isinstance(made, torch.Tensor):
            self._softmax[id(made)] = place, made  # kept, so that no other tensor gets its number
        elif name == ATTENTION and place is not None:
            self._note(place, kwargs.get("dropout_p", args[4] if len(args) > 4 else 0.0))
        elif func is functional.dropout and place is not None:
            given = inspect.signature(func).bind(*args, **kwargs)
            given.apply_defaults()
            rate = given.arguments["p"] if given.arguments["training"] else 0.0
            self._note(place, rate)
            before = self._softmax.get(id(given.arguments["input"]))
            if before is not None and rate:
                self._note(before[0], rate)
                self.after[before[0]] = place
        elif func is functional.multi_head_attention_forward:
            given = inspect.signature(func).bind(*args, **kwargs)
            given.apply_defaults()
            if given.arguments["training"]:
                self.everywhere[self._path()] = float(given.arguments["dropout_p"])
        return made

    def _path(self) -> str:
        return self.running[-1] if self.running else ""

    def _placed(self, name: str) -> Place:
        path = self._path()
        self._calls[path, name] += 1
        return path, name, self._calls[path, name] - 1

    def _note(self, place: Place, rate: float) -> None:
        if rate:
            self.rates[place] = float(rate)


def warn_of_missing(dropouts: Dropouts, captured: Collection[Place], model: str) -> tuple[str, ...]:
    """Issue a Python warning that names the modules whose dropout in training is lost in the exported module.

    The sentence of the warning is returned, for the certificate.

    Args:
        dropouts: The dropouts in training.
        captured: The calls of operators in the exported module; a dropout is lost if its operator is not among them.
        model: The name of the module, for the message.
    """
    placed = {dropouts.after[place] for place in dropouts.rates if place in dropouts.after}
    missing = {place[0] for place in dropouts.rates if place not in captured and place not in placed}
    if not missing:
        return ()
    paths = ", ".join(sorted(f"{model}.{path}" if path else model for path in missing))
    sentence = f"{paths}: a dropout that is called in training only is not in the Keras model"
    warnings.warn(sentence, stacklevel=2)
    return (sentence,)
