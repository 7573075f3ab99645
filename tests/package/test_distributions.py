"""The contents of the wheel and the sdist. The build is slow, so these tests are not in the core group."""

import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path, PurePosixPath
from shutil import copy, copytree

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "keras3conv"


@pytest.fixture(scope="module")
def distributions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the sdist and the wheel, built from a copy because setuptools writes into the sources."""
    copied = tmp_path_factory.mktemp("source")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        copy(ROOT / name, copied)
    for name in ("keras3conv", "validators"):
        copytree(ROOT / name, copied / name, symlinks=True)
    output = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(output), str(copied)]
    finished = subprocess.run(command, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    return output


def wheel_names(distributions: Path) -> set[str]:
    (wheel,) = distributions.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def package_files() -> set[str]:
    """Return the files of the package; the symlinked validators are listed separately, as `walk` follows no links."""
    own = [path for path in PACKAGE.rglob("*.py") if "validators" not in path.relative_to(PACKAGE).parts]
    found = [*own, *(PACKAGE / "validators").rglob("*.py"), PACKAGE / "py.typed"]
    return {f"keras3conv/{path.relative_to(PACKAGE).as_posix()}" for path in found}


def test_the_wheel_holds_every_source_file(distributions: Path) -> None:
    assert not [*package_files() - wheel_names(distributions)]


def checked(*files: Path) -> str:
    """Return the messages of twine about the metadata of distributions."""
    command = [sys.executable, "-m", "twine", "check", "--strict", *map(str, files)]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout


def test_twine_finds_no_fault_in_the_wheel_and_the_sdist(distributions: Path) -> None:
    said = checked(*sorted(distributions.iterdir()))
    assert said.count("PASSED") == 2, said
    assert "WARNING" not in said


def test_the_check_detects_a_fault_in_the_metadata(distributions: Path, tmp_path: Path) -> None:
    (wheel,) = distributions.glob("*.whl")
    with zipfile.ZipFile(wheel) as good, zipfile.ZipFile(tmp_path / wheel.name, "w") as bad:
        for name in good.namelist():
            content = good.read(name)
            if name.endswith(".dist-info/METADATA"):
                content = content.partition(b"\n\n")[0].replace(b"text/markdown", b"text/x-rst") + b"\n\n.. x::\n"
            bad.writestr(name, content)
    assert "PASSED" not in checked(tmp_path / wheel.name)


def test_the_wheel_has_no_top_level_package_but_ours(distributions: Path) -> None:
    top = {PurePosixPath(name).parts[0] for name in wheel_names(distributions)}
    assert {name for name in top if not name.endswith(".dist-info")} == {"keras3conv"}


def test_the_wheel_carries_the_templates_and_the_licence(distributions: Path) -> None:
    names = wheel_names(distributions)
    templates = {f"keras3conv/{path.relative_to(PACKAGE).as_posix()}" for path in PACKAGE.rglob("*.j2")}
    assert not [*templates - names]
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in names)


def test_the_sdist_holds_the_validators_as_real_files(distributions: Path) -> None:
    (sdist,) = distributions.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        members = {member.name.partition("/")[2]: member for member in archive.getmembers()}
    assert members["keras3conv/validators/__init__.py"].isfile()
    assert not any(member.issym() or member.islnk() for member in members.values())
    assert not any(name.startswith("validators/") for name in members)
