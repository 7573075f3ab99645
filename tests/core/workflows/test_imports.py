"""The files of the user that a file of code imports are found among thousands of imported modules."""

import sys
from pathlib import Path
from types import ModuleType

import pytest

from keras3conv.workflows import imports
from keras3conv.workflows.imports import with_imports


def registered(name: str, file: Path, monkeypatch: pytest.MonkeyPatch, package: str = "") -> None:
    """Register a module as imported."""
    module = ModuleType(name)
    module.__file__, module.__package__ = str(file), package
    monkeypatch.setitem(sys.modules, name, module)


def written(folder: Path, name: str, text: str = "") -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text(text)
    return path


def test_a_relative_import_is_that_of_the_package_of_the_file_and_not_of_a_file_of_the_same_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    for folder in (first, second):
        registered(f"{folder.name}.net", written(folder, "net.py", "from . import sizes"), monkeypatch, folder.name)
        registered(f"{folder.name}.sizes", written(folder, "sizes.py"), monkeypatch, folder.name)
    assert with_imports([first / "net.py"]) == (first / "net.py", first / "sizes.py")
    assert with_imports([second / "net.py"]) == (second / "net.py", second / "sizes.py")


def test_a_file_behind_a_link_occurs_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, link = tmp_path / "real", tmp_path / "link"
    registered("net", written(real, "net.py", "import parts"), monkeypatch)
    link.symlink_to(real)
    registered("parts", written(real, "parts.py", "import net"), monkeypatch)
    assert with_imports([link / "net.py", real / "net.py"]) == (real / "net.py", real / "parts.py")


def test_a_relative_file_is_that_of_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for folder in (tmp_path / "first", tmp_path / "second"):
        written(folder, "net.py")
        monkeypatch.chdir(folder)
        assert with_imports([Path("net.py")]) == (folder / "net.py",)


def test_a_module_of_another_file_name_costs_no_look_at_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    registered("net", written(tmp_path, "net.py", "import parts"), monkeypatch)
    registered("parts", written(tmp_path, "parts.py"), monkeypatch)
    for number in range(100):
        registered(f"other{number}", tmp_path / f"other{number}.py", monkeypatch)
    resolved: list[str] = []

    def absolute(path: Path) -> Path:
        resolved.append(path.name)
        return path

    monkeypatch.setattr(imports, "_absolute", absolute)
    assert with_imports([tmp_path / "net.py"]) == (tmp_path / "net.py", tmp_path / "parts.py")
    assert set(resolved) == {"net.py", "parts.py"}


def test_without_a_file_no_module_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(imports, "_modules_by_file_name", None)
    assert with_imports([]) == ()
