"""Import and run the user's code: a module or a Python file. A failure is an error with the line that raised."""

import importlib
import importlib.util
import os
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from types import ModuleType
from typing import Any

from keras3conv.errors import EXTRA_OF, InputError, ModelError, installing, message_of
from keras3conv.workflows.imports import searched, with_imports


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


def import_code(where: str) -> None:
    """Import the user's code: a module (`package.module`) or a Python file, whose layer classes Keras then knows.

    Raises:
        InputError: There is no such module or file.
        ModelError: The code raised.
    """
    module = run(where, "", lambda: imported(where))
    if "keras" in sys.modules:
        from keras3conv.frameworks.keras.files import register_classes

        register_classes(module)


@contextmanager
def notes_to_stderr() -> Iterator[None]:
    """Redirect the prints of the user's code to stderr in the `with` block, so that stdout has only the result."""
    with redirect_stdout(sys.stderr):
        yield


def imported(where: str) -> ModuleType:
    """Import a module (`package.module`) or a Python file (`file.py`), and return it."""
    return _import_file(Path(where)) if where.endswith(".py") else _import_module(where)


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


def run(where: str, name: str, code: Callable[[], Any]) -> Any:
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
