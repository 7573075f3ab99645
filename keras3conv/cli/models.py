"""What an argument of the command line means: a file, or a factory in Python code, with weights loaded into it."""

import importlib
import importlib.util
import inspect
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from keras3conv.errors import InputError, ModelError, Problem
from keras3conv.messages import lay_out
from keras3conv.model.views import Side


@dataclass(frozen=True, kw_only=True)
class Weights:
    """Files that are loaded into what a factory makes, by side."""

    torch: Path | None = None
    keras: Path | None = None


@dataclass(frozen=True, kw_only=True)
class Given:
    """A model that an argument names.

    Attributes:
        model: A live model, or the path of a file.
        side: Whose it is.
        live: Whether it is a live model.
    """

    model: Any
    side: Side
    live: bool


def resolve(argument: str, weights: Weights) -> Given:
    """The model that an argument names.

    Args:
        argument: A file, `package.module:factory` or `path/to/file.py:factory`.
        weights: What is loaded into a live model.

    Raises:
        InputError: There is no such factory, or it makes no model.
        ModelError: The factory raised.
        FileError: It is a file with a suffix that no format has, or the weights cannot be read.
    """
    from keras3conv.frameworks.sides import side_and_form

    where, _, name = argument.rpartition(":")
    if Path(argument).exists() or not _is_factory(where, name):
        if argument.endswith(".py"):
            raise InputError(f"{argument} is Python code: name the factory too\nFix:  {argument}:factory")
        return Given(model=Path(argument), side=side_and_form(Path(argument))[0], live=False)
    model = _make(where, name)
    side = side_and_form(model)[0]
    if path := weights.torch if side == "torch" else weights.keras:
        _load_weights(model, side, path)
    return Given(model=model, side=side, live=True)


@contextmanager
def notes_to_stderr() -> Iterator[None]:
    """What the code of others prints for a while goes to stderr: stdout carries the result only."""
    with redirect_stdout(sys.stderr):
        yield


def _is_factory(where: str, name: str) -> bool:
    """Whether this is `package.module:factory` or `file.py:factory`, and not the name of a file with a colon in it."""
    dotted = all(part.isidentifier() for part in where.split("."))
    return all(part.isidentifier() for part in name.split(".")) and (where.endswith(".py") or dotted)


def _make(where: str, name: str) -> Any:
    """The model that a factory makes, or that a module holds."""
    module = _run(where, "", lambda: _import_file(Path(where)) if where.endswith(".py") else _import_module(where))
    found: Any = module
    for part in name.split("."):
        if not hasattr(found, part):
            known = ", ".join(_public_names(module)) or "no model and no function"
            raise InputError(f"{where} has no {name}; it has: {known}")
        found = getattr(found, part)
    if _is_model(found):
        return found
    if not callable(found):
        raise InputError(
            f"{where}:{name} is a {type(found).__name__}: it must be a model, or a factory that returns one"
        )
    if needed := _required(found):
        raise InputError(f"{where}:{name} needs {', '.join(needed)}: a factory is called without arguments")
    made = _run(where, name, found)
    if not _is_model(made):
        what = f"{where}:{name} returned a {type(made).__name__}"
        raise InputError(f"{what}: a factory returns a torch module or a Keras model")
    return made


def _import_file(path: Path) -> ModuleType:
    """Runs a file as a module of its name; what stands beside it can be imported, as when it is run as a script."""
    if not path.is_file():
        raise InputError(f"{path} does not exist")
    location = path.resolve()
    known = sys.modules.get(location.stem)
    if known is not None and getattr(known, "__file__", None) == str(location):
        return known
    # A file called keras.py must not take the place of Keras.
    name = location.stem if known is None else f"_given_{location.stem}"
    spec = importlib.util.spec_from_file_location(name, location)
    if spec is None or spec.loader is None:
        raise InputError(f"{path} is no Python code")
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(location.parent))
    sys.modules[name] = module  # dataclasses look their module up by its name
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _import_module(name: str) -> ModuleType:
    """Imports a module; the current folder is searched first, as `python -m` does."""
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name and (name == error.name or name.startswith(f"{error.name}.")):
            raise InputError(f"there is no module {error.name}, in {Path.cwd()} or installed") from None
        raise


def _run(where: str, name: str, code: Callable[[], Any]) -> Any:
    """Runs the code of others; whatever it raises becomes one error that says where."""
    try:
        with notes_to_stderr():
            return code()
    except (InputError, KeyboardInterrupt):
        raise
    except BaseException as error:  # it may raise anything: SystemExit, where a script has no main guard
        raise ModelError(_failure(where, name, error)) from error


def _failure(where: str, name: str, error: BaseException) -> str:
    """The message for code that raised: the exception, and the last of its lines that the user wrote."""
    frames = traceback.extract_tb(error.__traceback__)
    file = where if where.endswith(".py") else getattr(sys.modules.get(where), "__file__", None) or ""
    own = [frame for frame in frames if Path(frame.filename).resolve() == Path(file).resolve()]
    text = str(error).strip().split("\n")[0]
    what = f"{type(error).__name__}: {text}" if text else type(error).__name__
    if isinstance(error, SyntaxError):
        return f"{where} cannot be imported\n  line {error.lineno}: {what}"
    frame = (own or frames)[-1]
    headline = f"{where}:{name} raised {what}" if name else f"{where} raised {what} when it was imported"
    return f"{headline}\n  {frame.filename}, line {frame.lineno}, in {frame.name}\n      {frame.line or ''}".rstrip()


def _public_names(module: ModuleType) -> list[str]:
    """What may be meant: models, and functions and classes that the module itself defines."""
    return [
        name
        for name, value in vars(module).items()
        if not name.startswith("_")
        and (_is_model(value) or (callable(value) and getattr(value, "__module__", "") == module.__name__))
    ]


def _is_model(value: object) -> bool:
    from keras3conv.frameworks.sides import side_and_form

    if isinstance(value, str | Path | type):
        return False
    try:
        side_and_form(value)
    except InputError:
        return False
    return True


def _required(factory: Callable[..., Any]) -> list[str]:
    """The arguments that a callable cannot be called without."""
    try:
        parameters = inspect.signature(factory).parameters.values()
    except (TypeError, ValueError):  # written in C: its call will tell
        return []
    variadic = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return [entry.name for entry in parameters if entry.default is entry.empty and entry.kind not in variadic]


def _load_weights(model: Any, side: Side, path: Path) -> None:
    if side == "keras":
        from keras3conv.frameworks.keras import files as keras_files

        keras_files.load_weights(model, path)
        return
    from keras3conv.frameworks.torch import module as torch_side

    values = _state_dict(model, path)
    torch_side.write(model, values)


def _state_dict(model: Any, path: Path) -> dict[str, Any]:
    """The values of a checkpoint for a module; every name must be on both sides, with one shape and dtype."""
    from keras3conv import formats

    view = formats.read(path)
    if view.side != "torch":
        raise InputError(f"{path} holds the weights of Keras, not of torch\nFix:  keras3conv align FACTORY {path}")
    found = {tensor.path: (tensor.shape, tensor.dtype) for tensor in view.tensors()}
    wanted = {
        name: (tuple(tensor.shape), str(tensor.dtype).removeprefix("torch."))
        for name, tensor in model.state_dict().items()
    }
    problems = [
        Problem(torch=name, fact="is in the module, and not in the file") for name in wanted if name not in found
    ]
    problems += [
        Problem(torch=name, fact="is in the file, and not in the module") for name in found if name not in wanted
    ]
    for name in wanted.keys() & found.keys():
        if found[name] != wanted[name]:
            is_there, is_here = (f"{dtype} {shape}" for shape, dtype in (found[name], wanted[name]))
            problems.append(Problem(torch=name, fact=f"is {is_there} in the file, and {is_here} in the module"))
    if problems:
        headline = f"the weights in {path} are not those of {type(model).__name__} (torch)"
        raise ModelError(lay_out(headline, sorted(problems, key=lambda problem: problem.torch)))
    return {name: view.read(name) for name in wanted}
