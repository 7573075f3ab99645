"""Rerun a torch module with changed function calls, to test whether a change explains a difference.

A function mode intercepts every torch function that a module calls. A key such as "the third convolution in this
module" identifies a call in every run, and a change replaces the call. The input of the target module counts as the
result of an additional function called "given", so that a change can replace it even if no torch function runs before
the target.
"""

import copy
from collections import Counter
from collections.abc import Mapping
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from keras3conv.errors import ModelError
from keras3conv.frameworks.torch import module as torch_side
from keras3conv.frameworks.torch.calls import Change, Key, Operation, TorchCall, described, is_float
from keras3conv.frameworks.torch.observing import Arguments, forward_calls
from keras3conv.frameworks.torch.tensors import tensors_in
from keras3conv.transforms import Array, Arrays

GIVEN = "given"
"""The name of the additional call that represents the first floating-point input of the module to rerun."""


@dataclass(frozen=True, kw_only=True)
class Target:
    """The module call at which a rerun of the model stops; the rerun returns the inputs and outputs of this call.

    Attributes:
        path: The path of the module; empty for the whole model.
        call: The number of the call among those of this module, from 0.
    """

    path: str | None = None
    call: int = 0


@dataclass(kw_only=True)
class Replayed:
    """The result of a rerun of a module with changed function calls.

    Attributes:
        inputs: The input arrays of the target.
        outputs: The output arrays of the target.
        operations: The calls of functions in order; empty if `listing` is False.
        began: The number of the first operation of the target.
        ended: For each module path, the operation number at which its last call ended. Calls after the target are not
            counted.
    """

    inputs: tuple[Array, ...] = ()
    outputs: tuple[Array, ...] = ()
    operations: list[Operation] = field(default_factory=list)
    began: int = 0
    ended: dict[str, int] = field(default_factory=dict)


class _Reached(Exception):
    pass


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A module to rerun, its inputs, and tensor values (by path) that replace the module's own."""

    module: nn.Module
    inputs: Any
    tensors: Mapping[str, Array] | None = None

    def replay(
        self,
        target: Target,
        *,
        changes: Mapping[Key, Change] | None = None,
        tensors: Mapping[str, Array] | None = None,
        float64: bool = True,
        listing: bool = False,
    ) -> Replayed:
        """Run the module in evaluation mode until the target returns.

        Args:
            target: The layer call whose inputs and outputs are returned.
            changes: The functions to call in place of others, by the key of the call that is replaced.
            tensors: Values that replace the module's tensors, by path, in addition to `self.tensors`.
            float64: Whether to run in float64.
            listing: Whether the result also lists every function call, with its key.

        Raises:
            ModelError: The module raised, or the target was not reached.
        """
        seen = _Run(target=target, changes=changes or {}, listing=listing)
        given = {**(self.tensors or {}), **(tensors or {})}
        with ExitStack() as contexts:
            contexts.enter_context(torch_side.precise())
            contexts.enter_context(seen.observed(self.module))
            functions = _FunctionCalls(seen)
            try:
                recording = torch_side.run(
                    self.module, self.inputs, tensors=given, float64=float64, watch=False, mode=functions
                )
            except _Reached:
                return seen.replayed
        if target.path is not None:
            raise ModelError(
                f"the module {target.path} was expected to be called at least {target.call + 1} times, but was called "
                "less often"
                ": rerun the whole model with the recorded inputs"
            )
        seen.replayed.outputs = tuple(recording.outputs.values())
        seen.replayed.began = seen.place
        return seen.replayed


class _Run:
    """The state of a rerun of a module that is in progress."""

    def __init__(self, *, target: Target, changes: Mapping[Key, Change], listing: bool) -> None:
        self.target, self.changes, self.listing = target, changes, listing
        self.replayed = Replayed()
        self.place = 0
        self.times: Counter[tuple[str, str]] = Counter()
        self.running: list[str] = []
        self.calls = 0

    def observed(self, module: nn.Module) -> AbstractContextManager[list[str]]:
        """Return a context manager in which hooks of this rerun are called before and after every call of a submodule.

        It yields the list of the paths of the running modules, the innermost last.
        """
        return forward_calls(module, before=self._before, after=self._after, running=self.running)

    def _before(self, path: str, arguments: Arguments) -> Arguments | None:
        if path != self.target.path:
            return None
        self.calls += 1
        if self.calls != self.target.call + 1:
            return None
        changed = self._given(arguments[0]), arguments[1]
        self.replayed.inputs = _arrays(changed)
        self.replayed.began = self.place
        return changed

    def _after(self, path: str, arguments: Arguments, output: Any) -> None:
        if path == self.target.path and self.calls == self.target.call + 1:
            self.replayed.outputs = _arrays(output)
            raise _Reached
        self.replayed.ended[path] = self.place

    def _given(self, args: tuple[Any, ...]) -> tuple[Any, ...]:
        """Return the positional arguments with which the module is rerun.

        The first one is replaced if the tested change is a change of the input.
        """
        if not args or not is_float(args[0]):
            return args
        return (self._noted(TorchCall(_itself, args[:1], {}), ""), *args[1:])

    def call(self, call: TorchCall) -> Any:
        """Run a torch function, or the replacement if this call is to be changed, and record the call."""
        return self._noted(call, self.running[-1]) if self.running else call.run()

    def _noted(self, call: TorchCall, owner: str) -> Any:
        place, self.place = self.place, self.place + 1
        key = (owner, call.name, self.times[owner, call.name])
        self.times[owner, call.name] += 1
        result = self.changes[key](call) if key in self.changes else call.run()
        if self.listing:
            self.replayed.operations.append(described(call, key, place, result))
        return result


def _itself(value: Any) -> Any:
    return value


_itself.__name__ = GIVEN


class _FunctionCalls(TorchFunctionMode):
    def __init__(self, run: _Run) -> None:
        super().__init__()
        self.run = run

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return self.run.call(TorchCall(func, args, kwargs or {}))


def _arrays(value: Any) -> tuple[Array, ...]:
    """Return copies of the tensors as arrays; function modes do not intercept the copying."""
    with torch._C.DisableTorchFunction():
        return tuple(torch_side.to_numpy(tensor).copy() for tensor in tensors_in(value))


def run_with(
    model: nn.Module, path: str, attributes: Mapping[str, Any], inputs: Arrays, tensors: Mapping[str, Array]
) -> Arrays | None:
    """Run a copy of one submodule in float64 with other attributes.

    Args:
        model: The model.
        path: The path of the submodule.
        attributes: The attributes to change, with their new values.
        inputs: The positional arguments of the submodule.
        tensors: Values of the model's tensors by path; the values for this submodule are used.

    Returns:
        The output arrays; None if the submodule cannot run with these attributes.
    """
    module = copy.copy(model.get_submodule(path))
    for shared in ("_parameters", "_buffers", "_modules"):  # a change of the copy must not change the module
        object.__setattr__(module, shared, getattr(module, shared).copy())
    own = {name.removeprefix(f"{path}."): array for name, array in tensors.items() if name.startswith(f"{path}.")}
    try:
        for name, value in attributes.items():
            setattr(module, name, value)
        recording = torch_side.run(module, inputs, tensors=own, float64=True, watch=False)
    except (ModelError, TypeError, AttributeError):  # the attribute does not accept this value
        return None
    return tuple(recording.outputs.values())
