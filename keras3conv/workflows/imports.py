"""Find the user's own Python files that a file of code imports, directly or through other files of the user."""

import ast
import os
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import ModuleType


def with_imports(files: Iterable[Path]) -> tuple[Path, ...]:
    """Return Python files, each followed by the files that it imports, without those of installed packages.

    The files must have been imported. Paths are absolute, and a file that is named in two ways occurs once.

    Args:
        files: The files.
    """
    modules = {_absolute(Path(file)): module for module in _modules() if (file := getattr(module, "__file__", None))}
    found: dict[Path, None] = {}
    for file in files:
        _add(_absolute(file), modules, found)
    return tuple(found)


def is_installed(path: Path) -> bool:
    """Return whether a file belongs to Python itself or to an installed package."""
    folders = tuple({sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")})
    real = os.path.realpath(path)
    return real.startswith(folders) or "site-packages" in Path(real).parts


def _modules() -> list[ModuleType]:
    named = list(sys.modules.items())
    return [module for name, module in named if name.partition(".")[0] not in ("keras3conv", "__main__")]


def _absolute(path: Path) -> Path:
    return Path(os.path.realpath(path.parent)) / path.name


def _add(file: Path, modules: dict[Path, ModuleType], found: dict[Path, None]) -> None:
    """Add a file and the files that it imports, in this order, unless the file is there already.

    Args:
        file: The file.
        modules: The imported modules by file.
        found: The files so far, as the keys of a dict.
    """
    if file in found or not file.is_file():
        return
    found[file] = None
    for name in _names(file, modules.get(file)):
        imported = getattr(sys.modules.get(name), "__file__", None)
        if imported and _absolute(Path(imported)) in modules and not is_installed(Path(imported)):
            _add(_absolute(Path(imported)), modules, found)


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


__all__ = ["is_installed", "with_imports"]
