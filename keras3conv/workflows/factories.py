"""Load the model that a command-line argument names: a file, or a factory (a function) with optional weights."""

import ast
import inspect
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from keras3conv.errors import InputError
from keras3conv.formats.identify import is_architecture
from keras3conv.messages import with_article
from keras3conv.model.views import Side
from keras3conv.workflows.user_code import files_of_code, imported, run

if TYPE_CHECKING:
    from keras3conv.frameworks.adapter import Adapter
    from keras3conv.writing.digests import ReadFile


@dataclass(frozen=True, kw_only=True)
class Weights:
    """The files of weights to load into the model of a factory.

    Attributes:
        torch: The file for a torch module.
        keras: The file for a Keras model.
        entry: The name of the state dict to read, if a torch checkpoint contains several.
    """

    torch: Path | None = None
    keras: Path | None = None
    entry: str = ""

    def of(self, side: Side) -> Path | None:
        """Return the file of weights for a side ("torch" or "keras"); None if the side has none."""
        return {"torch": self.torch, "keras": self.keras}[side]


def resolve(argument: str, weights: Weights) -> "Adapter":
    """Return the model that a command-line argument names.

    Args:
        argument: A file, `package.module:factory` or `path/to/file.py:factory`.
        weights: The weights to load into a live model.

    Raises:
        InputError: The factory does not exist, or does not return a model.
        ModelError: The factory raised.
        FileError: The suffix of a file is unknown, or the weights cannot be read.
    """
    from keras3conv.frameworks import sides
    from keras3conv.frameworks.adapter import ModelFile

    factory = factory_of(argument)
    if factory is None:
        return sides.resolve(Path(argument), entry=weights.entry, keras_weights=weights.keras)
    model = sides.resolve(_make(*factory))
    path = weights.of(model.side)
    if path is not None and not isinstance(model, ModelFile):
        model.load_weights(path, entry=weights.entry)
    return model


def require_used(weights: Weights, *models: "tuple[str, Adapter]") -> None:
    """Check that each file of weights is loaded into a model; a report would otherwise be about other weights.

    Args:
        weights: The weights that the user named.
        models: The arguments of the command that name models, each with its model.

    Raises:
        InputError: No model of this framework is made without weights, by a factory or an architecture (.json).
    """
    sides: tuple[Side, ...] = ("torch", "keras")
    for side in sides:
        path = weights.of(side)
        named = [(argument, model) for argument, model in models if model.side == side]
        if path is None or any(model.is_live or is_architecture(argument) for argument, model in named):
            continue
        fact = (
            f"{named[0][0]} has weights of its own: leave the option out, or name the function that makes the model "
            "without weights, as net.py:make"
            if named
            else f"{models[0][0]} is no {'torch' if side == 'torch' else 'Keras'} model"
        )
        raise InputError(f"--{side}-weights {path} would not be used, because {fact}")


def require_used_by_convert(weights: Weights, argument: str, model: "Adapter | None") -> None:
    """Raise `InputError` if a conversion would not load a file of weights; those for a Keras file replace its own.

    Args:
        weights: The weights that the user named.
        argument: The argument that names the model.
        model: The model; None for one that only `convert` opens.
    """
    is_keras_file = model.side == "keras" and not model.is_live if model else is_architecture(argument)
    left = replace(weights, keras=None) if is_keras_file else weights
    if model:
        require_used(left, (argument, model))
    elif path := left.torch or left.keras:
        raise InputError(f"{path} would not be used, because {argument} has weights of its own: leave the option out")


def files_of_factory(argument: str, weights: Weights, side: Side) -> "tuple[ReadFile, ...]":
    """Return the files from which `resolve` made a live model, with digests: its code or architecture, and its weights.

    Args:
        argument: The factory, or the architecture (.json).
        weights: The weights that were loaded.
        side: The framework of the model.
    """
    from keras3conv.workflows.sources import read_file, weights_read

    path = weights.of(side)
    loaded = () if path is None else weights_read(path, weights.entry if side == "torch" else "")
    return (*map(read_file, code_of_factories(argument)), *loaded)


def code_of_factories(*arguments: str) -> tuple[Path, ...]:
    """Return the Python files of the factories among command-line arguments, and the architectures (.json) among them.

    `resolve` has imported the factories already.
    """
    found = (factory_of(argument) for argument in arguments)
    architectures = (Path(argument) for argument in arguments if is_architecture(argument))
    return (*files_of_code([where for where, _ in filter(None, found)]), *architectures)


def factory_of(argument: str) -> tuple[str, str] | None:
    """Split the argument of a factory: "net.py:make" -> ("net.py", "make"); return None for the file of a model.

    Raises:
        InputError: The argument is a Python file without the name of a factory.
    """
    where, _, name = argument.rpartition(":")
    if not os.path.lexists(argument) and _is_factory(where, name):
        return where, name
    if argument.endswith(".py"):
        fixes = "     or     ".join(f"{argument}:{found}" for found in _factories_in(argument)[:2])
        raise InputError(
            f"{argument} is Python code, so name the function in it that returns the model, too"
            + (f"\nFix:  {fixes}" if fixes else "")
        )
    return None


def _factories_in(path: str) -> list[str]:
    """Return the names of the functions without required arguments in a Python file, which is parsed and not run."""
    try:
        tree = ast.parse(Path(path).read_text(encoding="utf-8"))
    except (OSError, SyntaxError, ValueError):
        return ["factory"]
    functions = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
    return [node.name for node in functions if len(node.args.args) == len(node.args.defaults)]


def _is_factory(where: str, name: str) -> bool:
    """Return True if an argument names a factory (`package.module:factory`, `file.py:factory`), not a file.

    A colon does not prove that, because a file name may contain a colon.

    Args:
        where: The part before the colon.
        name: The part after it.
    """
    dotted = all(part.isidentifier() for part in where.split("."))
    return all(part.isidentifier() for part in name.split(".")) and (where.endswith(".py") or dotted)


def find_factory(where: str, name: str) -> Any:
    """Import a module or Python file, and return an attribute: a model, or a callable without required arguments.

    Args:
        where: The module (`package.module`) or file (`file.py`).
        name: The attribute.

    Raises:
        InputError: There is no such attribute, or it is neither a model nor such a callable.
        ModelError: The module raised when it was imported.
    """
    module = run(where, "", lambda: imported(where))
    found: Any = module
    for part in name.split("."):
        if not hasattr(found, part):
            known = ", ".join(_public_names(module)) or "neither a model nor a function"
            raise InputError(f"{where} has no model or function {name}; it has {known}")
        found = getattr(found, part)
    if _is_model(found):
        return found
    if not callable(found):
        raise InputError(
            f"{where}:{name} must be a model, or a function that returns one, but is "
            f"{with_article(type(found).__name__)}"
        )
    if needed := _required(found):
        arguments = "argument" if len(needed) == 1 else "arguments"
        raise InputError(
            f"{where}:{name} needs the {arguments} {', '.join(needed)}, but a factory is called without arguments; "
            f"write a function that calls it, such as def make(): return {name}(...), and name that function instead"
        )
    return found


def _make(where: str, name: str) -> Any:
    """Return the model of a factory: the result of calling attribute `name`, or the attribute if it is a model.

    Args:
        where: The module (`package.module`) or Python file (`file.py`).
        name: The attribute.
    """
    found = find_factory(where, name)
    if _is_model(found):
        return found
    made = run(where, name, found)
    if not _is_model(made):
        what = with_article(type(made).__name__)
        raise InputError(f"{where}:{name} returned {what}: a factory returns a torch module or a Keras model")
    return made


def _public_names(module: ModuleType) -> list[str]:
    """Return the names in a module that may be factories: its public models, functions and classes."""
    return [
        name
        for name, value in vars(module).items()
        if not name.startswith("_")
        and (_is_model(value) or (callable(value) and getattr(value, "__module__", "") == module.__name__))
    ]


def _is_model(value: object) -> bool:
    from keras3conv.frameworks import sides

    if isinstance(value, str | Path | type):
        return False
    try:
        sides.resolve(value)
    except InputError:
        return False
    return True


def _required(factory: Callable[..., Any]) -> list[str]:
    """Return the names of the required arguments of a callable: those without a default."""
    try:
        parameters = inspect.signature(factory).parameters.values()
    except (TypeError, ValueError):  # a function in C without a signature
        return []
    variadic = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return [entry.name for entry in parameters if entry.default is entry.empty and entry.kind not in variadic]
