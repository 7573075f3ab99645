"""Load the model that a command-line argument names: a file, or a factory (a function) with optional weights."""

import ast
import importlib
import importlib.util
import inspect
import os
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from keras3conv.errors import EXTRA_OF, InputError, ModelError, installing, message_of
from keras3conv.formats.identify import is_architecture
from keras3conv.messages import with_article
from keras3conv.model.views import Side
from keras3conv.workflows.imports import searched, with_imports

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


def files_of_code(code: Sequence[str]) -> tuple[Path, ...]:
    """Return the Python files of modules and files that were imported, each followed by those that it imports itself.

    Modules without a file and files of installed packages are left out.
    """
    return with_imports(file for file in map(_code, code) if file is not None)


def _code(where: str) -> Path | None:
    """Return the Python file of a module that was imported; None for a module without one.

    Args:
        where: The module (`package.module`) or Python file (`file.py`).
    """
    if where.endswith(".py"):
        return Path(where)
    file = getattr(sys.modules.get(where), "__file__", None)
    return Path(file) if file else None


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


def import_code(where: str) -> None:
    """Import the user's code: a module (`package.module`) or a Python file, whose layer classes Keras then knows.

    Raises:
        InputError: There is no such module or file.
        ModelError: The code raised.
    """
    module = _run(where, "", lambda: _imported(where))
    if "keras" in sys.modules:
        from keras3conv.frameworks.keras.files import register_classes

        register_classes(module)


@contextmanager
def notes_to_stderr() -> Iterator[None]:
    """Redirect the prints of the user's code to stderr in the `with` block, so that stdout has only the result."""
    with redirect_stdout(sys.stderr):
        yield


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
    module = _run(where, "", lambda: _imported(where))
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


def _imported(where: str) -> ModuleType:
    return _import_file(Path(where)) if where.endswith(".py") else _import_module(where)


def _make(where: str, name: str) -> Any:
    """Return the model of a factory: the result of calling attribute `name`, or the attribute if it is a model.

    Args:
        where: The module (`package.module`) or Python file (`file.py`).
        name: The attribute.
    """
    found = find_factory(where, name)
    if _is_model(found):
        return found
    made = _run(where, name, found)
    if not _is_model(made):
        what = with_article(type(made).__name__)
        raise InputError(f"{where}:{name} returned {what}: a factory returns a torch module or a Keras model")
    return made


def _import_file(path: Path) -> ModuleType:
    """Import a Python file as a module and return it. As in a script, the file can import other files of its folder."""
    if not os.path.isfile(path):  # noqa: PTH113  # unlike `Path.is_file`, false for a name that is too long
        raise InputError(f"the Python file {path} does not exist")
    location = Path(os.path.realpath(path))
    known = sys.modules.get(location.stem)
    if known is not None and getattr(known, "__file__", None) == str(location):
        return known
    # A file with the name keras.py must not replace Keras.
    name = location.stem if known is None else f"_given_{location.stem}"
    spec = importlib.util.spec_from_file_location(name, location)
    if spec is None or spec.loader is None:
        raise InputError(f"{path} cannot be imported as Python code: its name must end in .py")
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(location.parent))
    sys.modules[name] = module  # dataclasses look up their module by name
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _import_module(name: str) -> ModuleType:
    """Import a module and return it; the current folder is searched first, as by `python -m`."""
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name and (name == error.name or name.startswith(f"{error.name}.")):
            raise InputError(f"the module {error.name} is neither in {Path.cwd()} nor installed") from None
        raise
    if getattr(module, "__file__", None) is None and hasattr(module, "__path__"):
        raise InputError(f"{name} is a folder without code (__init__.py): name a Python file in it, as {name}/FILE.py")
    return module


def _run(where: str, name: str, code: Callable[[], Any]) -> Any:
    """Run the user's code and return its result; an exception becomes a `ModelError` with the line that raised it.

    Args:
        where: The module or Python file of the code, for the message.
        name: The factory; empty while the module is imported.
        code: The function to call.
    """
    try:
        with notes_to_stderr():
            return code()
    except (InputError, KeyboardInterrupt):
        raise
    except BaseException as error:  # also SystemExit, from a script without a main guard
        raise ModelError(_failure(where, name, error)) from error


def _failure(where: str, name: str, error: BaseException) -> str:
    """Return the message for an exception of the user's code: its text, and the line of the code that was running.

    Args:
        where: The module or Python file.
        name: The factory; empty if the module raised while it was imported.
        error: The exception.
    """
    frames = traceback.extract_tb(error.__traceback__)
    file = where if where.endswith(".py") else getattr(sys.modules.get(where), "__file__", None) or ""
    own = [frame for frame in frames if Path(frame.filename).resolve() == Path(file).resolve()]
    text = message_of(error).strip().split("\n")[0]
    what = f"{type(error).__name__}: {text}" if text else type(error).__name__
    if isinstance(error, SyntaxError):
        return f"{where} cannot be imported\n  line {error.lineno}: {what}"
    frame = (own or frames)[-1]
    headline = f"{where}:{name} raised {what}" if name else f"{where} raised {what} when it was imported"
    code = f"{headline}\n  {frame.filename}, line {frame.lineno}, in {frame.name}\n      {frame.line or ''}".rstrip()
    package = (error.name or "").partition(".")[0] if isinstance(error, ModuleNotFoundError) else ""
    if package in EXTRA_OF:
        return f"{code}\nFix:  {installing([package])}"
    return f"{code}\n{searched(package, file)}".rstrip() if package else code


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
