"""Export a module with `torch.export`; a module inside that cannot be captured is listed and left out."""

import inspect
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.export import Dim, ExportedProgram
from torch.utils import _pytree as pytree

from keras3conv.errors import RAISED_BY_MODELS, InputError, Problem
from keras3conv.frameworks.torch.branches import both_branches_computed, with_both_branches
from keras3conv.frameworks.torch.failures import place_of, reason_of
from keras3conv.frameworks.torch.observing import Arguments
from keras3conv.frameworks.torch.opaque import Calls, recorded_calls, registered_modules, standing_in
from keras3conv.frameworks.torch.tensors import named_modules
from keras3conv.model.views import ModelView
from keras3conv.rules.obstacle import obstacle


@dataclass(frozen=True, kw_only=True)
class Inner:
    """A module that is called by a module that torch.export cannot capture, with the arguments of its first call."""

    path: str
    module: nn.Module
    arguments: Arguments


@dataclass(frozen=True, kw_only=True)
class Exported:
    """The result of `torch.export` for a module.

    Attributes:
        program: The program; None if the model's own code cannot be captured.
        opaque: The paths of the modules whose calls are one operator each in the program.
        problems: A problem for each module that cannot be captured.
        inner: The modules that the modules in `problems` call; the program does not contain them.
    """

    program: ExportedProgram | None
    opaque: frozenset[str] = frozenset()
    problems: tuple[Problem, ...] = ()
    inner: tuple[Inner, ...] = ()


def exported(
    module: nn.Module, described: ModelView, arguments: Arguments, dynamic: Mapping[str, Sequence[int]]
) -> Exported:
    """Export a module in its present mode (training or evaluation).

    If a module inside cannot be captured, it becomes one operator, and the rest is exported again.

    Args:
        module: The module.
        described: The view of the module, with its layers and tensors.
        arguments: The positional and keyword arguments of its call.
        dynamic: The dynamic axes besides the batch axis, by the name of the input.

    Raises:
        InputError: The arguments do not fit the signature of the module, or `dynamic` names no input.
        ModelError: The module cannot be called with these arguments.
    """
    args, kwargs = arguments = with_two_examples(arguments)
    shapes = _shapes(module, arguments, dynamic)
    own = frozenset(registered_modules(described))
    calls = recorded_calls(module, args, kwargs) if own else None
    failed: dict[str, Problem] = {}
    program: ExportedProgram | None = None
    while program is None:
        try:
            with (
                standing_in(module, calls or Calls(), {*own, *failed}),
                both_branches_computed(),
                torch.enable_grad(),  # the graph then contains the blocks in which the module switches gradients off
                warnings.catch_warnings(),
            ):
                warnings.simplefilter("ignore", FutureWarning)  # torch warns of its own code, and of nn.LSTM
                made = torch.export.export(module, args, kwargs or None, dynamic_shapes=shapes, strict=False)
                program = with_both_branches(made)
        except RAISED_BY_MODELS as error:
            calls = calls or recorded_calls(module, args, kwargs)
            path, line = place_of(error, module)
            path = path if calls.of(path) and path not in failed else ""
            failed[path] = _problem(described, path, error, line, calls)
            if not path:
                break
            failed |= _alike(module, described, path, calls, failed)
    inner = [
        Inner(path=call.path, module=module.get_submodule(call.path), arguments=call.arguments)
        for path in failed
        for call in (calls or Calls()).inside(path)
        if call.path not in failed
    ]
    return Exported(program=program, opaque=own | {*failed}, problems=tuple(failed.values()), inner=tuple(inner))


def _problem(described: ModelView, path: str, error: Exception, line: str, calls: Calls) -> Problem:
    given = calls.of(path)[0].arguments if calls.of(path) else None
    return obstacle(described, path, "; ".join(part for part in (reason_of(error, given), line) if part))


def _alike(
    module: nn.Module, described: ModelView, path: str, calls: Calls, failed: Mapping[str, Problem]
) -> dict[str, Problem]:
    """Return problems, by path, for the other modules of the same class as a module that cannot be captured.

    Args:
        module: The whole module.
        described: Its layers and tensors.
        path: The path of the module that cannot be captured.
        calls: The recorded calls of all modules.
        failed: The problems that are known already; their modules are skipped.
    """
    found = {}
    kind = type(module.get_submodule(path))
    for other, child in named_modules(module):
        own = calls.of(other)
        if type(child) is not kind or other in failed or not own:
            continue
        args, kwargs = own[0].arguments
        try:
            torch.export.export(child, args, kwargs or None, strict=False)
        except RAISED_BY_MODELS as error:
            within, line = place_of(error, child)
            if not within:
                found[other] = _problem(described, other, error, line, calls)
    return found


def _as_named_inputs(module: nn.Module) -> str:
    """Return the argument with all required inputs of a module as code to paste: `inputs={"ids": ids}`."""
    parameters = inspect.signature(module.forward).parameters.values()
    variadic = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    names = [one.name for one in parameters if one.default is one.empty and one.kind not in variadic]
    given = ", ".join(f'"{name}": {name}' for name in names)
    return f"inputs={{{given}}}"


def _shapes(module: nn.Module, arguments: Arguments, dynamic: Mapping[str, Sequence[int]]) -> dict[str, Any]:
    """Return the dynamic axes of every input, for `torch.export`: the batch axis, and those that the user names.

    Args:
        module: The module.
        arguments: The arguments of its call.
        dynamic: The dynamic axes besides the batch axis, by the name of the input.

    Raises:
        InputError: The arguments do not fit the signature of the module, or `dynamic` names no input.
    """
    args, kwargs = arguments
    try:
        named = dict(inspect.signature(module.forward).bind(*args, **kwargs).arguments)
    except TypeError as error:
        raise InputError(
            f"{type(module).__name__} cannot be called with these inputs: {error}\nFix:  {_as_named_inputs(module)}"
        ) from error
    shapes: dict[str, Any] = pytree.tree_map(lambda leaf: {0: Dim.AUTO} if _has_axes(leaf) else None, named)
    for name, axes in dynamic.items():
        if not isinstance(named.get(name), torch.Tensor):
            known = ", ".join(name for name, value in named.items() if isinstance(value, torch.Tensor))
            raise InputError(
                f"dynamic={{{name!r}: ...}} is given, but no input that is a tensor has this name\nInputs:  {known}"
            )
        shapes[name] |= {axis % named[name].ndim: Dim.DYNAMIC for axis in axes}
    return shapes


def with_two_examples(inputs: Any) -> Any:
    """Return the inputs with the sample of a one-sample batch repeated: torch.export treats a size of one as fixed."""
    tensors = [leaf for leaf in pytree.tree_leaves(inputs) if _has_axes(leaf)]
    if not tensors or any(tensor.shape[0] != 1 for tensor in tensors):
        return inputs
    return pytree.tree_map(lambda leaf: torch.cat([leaf, leaf]) if _has_axes(leaf) else leaf, inputs)


def _has_axes(leaf: object) -> bool:
    return isinstance(leaf, torch.Tensor) and leaf.ndim > 0
