"""Find the user's own Python files that a file of code imports, directly or through other files of the user."""

import ast
import os
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from functools import cache, lru_cache
from importlib.util import find_spec
from pathlib import Path
from shlex import quote
from types import ModuleType

_LEVELS = 4
"""The number of folders above a file in which a missing module is searched."""

Modules = dict[str, list[ModuleType]]
"""Imported modules by the last part of the path of their file."""


def with_imports(files: Iterable[Path]) -> tuple[Path, ...]:
    """Return Python files, each followed by the files that it imports, without those of installed packages.

    The files must have been imported. Paths are absolute, and a file that is named in two ways occurs once.
    """
    named = [*files]
    modules = _modules_by_file_name() if named else {}
    found: dict[Path, None] = {}
    for file in named:
        _add(_absolute(file), modules, found)
    return tuple(found)


def searched(package: str, file: str) -> str:
    """Return advice on a missing module of the user: the folder that has it, else a sentence.

    The current folder and the parent folders of the importing file are searched. The result is empty if Python finds
    the package, so that only a submodule is missing.

    Args:
        package: The first part of the module's name.
        file: The Python file that was to be imported; empty if it is unknown.
    """
    if find_spec(package) is not None:
        return ""
    around = Path(file).absolute().parents[:_LEVELS] if file else ()
    for folder in dict.fromkeys((Path.cwd(), *around)):
        if (folder / f"{package}.py").is_file() or (folder / package).is_dir():
            place = os.path.relpath(folder)
            fact = f"{package} is in the folder {place}, in which Python does not look; put this before the command"
            return f"  {fact}\nFix:  PYTHONPATH={quote(place)}"
    return (
        f"  {package} is neither installed nor beside this code: install it, set PYTHONPATH to the folder that has it, "
        f"or import its file first with --import FOLDER/{package}.py"
    )


def is_installed(path: Path) -> bool:
    """Return whether a file belongs to Python itself or to an installed package."""
    real = os.path.realpath(path)
    return real.startswith(_folders_of_packages()) or "site-packages" in Path(real).parts


@cache
def _folders_of_packages() -> tuple[str, ...]:
    """Return the folders of Python itself and of its packages; cached, because sysconfig finds them slowly."""
    return tuple({sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")})


def _modules_by_file_name() -> Modules:
    """Return the imported modules that have a file, by the last part of its path.

    The frameworks import thousands of modules, and resolving the links in one path takes as long as converting a small
    layer. So the caller resolves only the paths that end in the right file name.
    """
    found: Modules = {}
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if file and name.partition(".")[0] not in ("keras3conv", "__main__"):
            found.setdefault(os.path.basename(file), []).append(module)  # noqa: PTH119  # a path takes longer
    return found


def _module_of(file: Path, modules: Modules) -> ModuleType | None:
    """Return the module that was made of a file, the last one if there are several; None if there is none.

    Args:
        file: The absolute path of the file.
        modules: The imported modules by the last part of their path.
    """
    of_the_name = reversed(modules.get(file.name, ()))
    return next((module for module in of_the_name if _absolute(Path(str(module.__file__))) == file), None)


def _absolute(path: Path) -> Path:
    return Path(_real_folder(path.parent.absolute())) / path.name


@lru_cache(maxsize=4096)
def _real_folder(folder: Path) -> str:
    """Return a folder with links resolved; cached, because thousands of modules are in a few hundred folders.

    Args:
        folder: The folder, as an absolute path: a relative one would depend on the current folder.
    """
    return os.path.realpath(folder)


def _add(file: Path, modules: Modules, files: dict[Path, None]) -> None:
    """Add a file and the files that it imports, in this order, unless the file is there already.

    Args:
        file: The file.
        modules: The imported modules by the last part of their path.
        files: The files so far, as the keys of a dict.
    """
    if file in files or not file.is_file():
        return
    files[file] = None
    for name in _names(file, _module_of(file, modules)):
        imported = getattr(sys.modules.get(name), "__file__", None)
        if imported and not is_installed(Path(imported)) and _module_of(_absolute(Path(imported)), modules):
            _add(_absolute(Path(imported)), modules, files)


def _names(file: Path, module: ModuleType | None) -> Iterator[str]:
    """Yield the names of the modules that the import statements of a file may name; some are names of functions.

    Args:
        file: The Python file.
        module: The module that was made of it, whose package relative imports need; None if unknown.
    """
    package = (getattr(module, "__package__", None) or "").split(".")
    for node in ast.walk(ast.parse(file.read_bytes())) if file.suffix == ".py" else ():
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield from _with_packages(alias.name)
        elif isinstance(node, ast.ImportFrom):
            start = package[: len(package) - node.level + 1] if node.level else []
            origin = ".".join([*filter(None, start), *([node.module] if node.module else [])])
            yield from _with_packages(origin)
            yield from (f"{origin}.{alias.name}" for alias in node.names)


def _with_packages(name: str) -> Iterator[str]:
    """Yield the packages that contain a module, which are imported first, and the module: "a" and "a.b" for "a.b"."""
    parts = name.split(".")
    yield from (".".join(parts[:length]) for length in range(1, len(parts) + 1))
