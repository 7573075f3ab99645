"""Install the wheel in new environments, with the lowest and the newest versions that it claims, and try it.

    python -m benchmarks environments --python 3.11=python3.11 --python 3.12=python3.12 --markdown docs/versions.md

Each environment has a row in the table: the requirements that were installed, the versions that pip chose, the size of
the environment, and how the trial ended (`_environment_trial.py`). If the Python of an environment was not given, its
row says so. `--keep` takes the rows of an earlier run from a file of JSON lines, and runs only the others.
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

SHOWN = ("numpy", "h5py", "ml_dtypes", "rich", "safetensors", "typer", "torch", "keras", "jax", "tensorflow", "jinja2")

LOWEST = ("numpy==1.26.0", "h5py==3.11.0", "ml_dtypes==0.4.0", "rich==13.0.0", "safetensors==0.4.3", "typer==0.15.0")

ABOUT = """# Versions that were tried

`python -m benchmarks environments` wrote this table: it builds the wheel, installs it in an empty environment, and
tries it there. *files* moves a checkpoint into a file of Keras weights, without a framework; *keras* fills a live model
from a torch checkpoint, without torch; *missing* runs a command for every extra that is not installed, whose error must
name the extra; *recipes* runs the three recipes of the README, proofs included.
"""

NOT_TRIED = """
Not tried: torch before and after 2.13, and torch on Python 3.12 and 3.13. Their builds for Linux come with several
gigabytes of CUDA libraries, which the machine of these trials could not install. The tests run with the versions of
`constraints.txt`, on Python 3.11; the workflow in `.github/workflows/tests.yml` runs them on 3.12 and 3.13 as well.
"""


@dataclass(frozen=True, kw_only=True)
class Environment:
    """A virtual environment to create.

    Attributes:
        name: What the environment tests, in words.
        python: The version of Python.
        extras: The extras of keras3conv.
        pins: Further requirements, which choose versions.
        trial: The name of the trial.
    """

    name: str
    python: str
    extras: str = ""
    pins: tuple[str, ...] = ()
    trial: str = "files"


@dataclass(frozen=True, kw_only=True)
class Row:
    """The result of the test in one environment.

    Attributes:
        name: The environment.
        python: The version of Python.
        asked: The requirements that were installed.
        versions: The versions that pip chose.
        megabytes: The size of the environment.
        result: "passed", or the last line of the failure.
    """

    name: str
    python: str
    asked: str
    versions: str = ""
    megabytes: int | None = None
    result: str


TORCH = next(line for line in (ROOT / "constraints.txt").read_text().splitlines() if line.startswith("torch=="))

ENVIRONMENTS = (
    Environment(name="newest", python="3.11"),
    Environment(name="newest", python="3.12"),
    Environment(name="newest", python="3.13"),
    Environment(name="lowest", python="3.11", pins=LOWEST),
    Environment(name="Keras without torch", python="3.13", extras="keras,jax", trial="keras"),
    Environment(name="both frameworks, no report", python="3.11", extras="torch,keras", pins=(TORCH,), trial="keras"),
    Environment(name="as in the README", python="3.11", extras="torch,keras,report", pins=(TORCH,), trial="recipes"),
    Environment(
        name="lowest Keras",
        python="3.11",
        extras="torch,keras,report",
        pins=(TORCH, "keras==3.15.0"),
        trial="recipes",
    ),
    Environment(name="torch alone", python="3.11", extras="torch", pins=(TORCH,), trial="missing"),
    Environment(name="keras alone", python="3.11", extras="keras", trial="missing"),
    Environment(name="report alone", python="3.11", extras="report", trial="missing"),
    Environment(name="onnx alone", python="3.11", extras="onnx", trial="missing"),
    Environment(name="ray alone", python="3.11", extras="ray", trial="missing"),
    Environment(name="demo alone", python="3.11", extras="demo", trial="missing"),
)


def wheel(folder: Path) -> Path:
    """Build the wheel from a copy of the sources, because setuptools writes beside them."""
    source = folder / "source"
    source.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    for name in ("keras3conv", "validators"):
        shutil.copytree(ROOT / name, source / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(source)]
    subprocess.run(command, check=True, capture_output=True)
    return next(folder.glob("*.whl"))


def tried(environment: Environment, python: str, built: Path, folder: Path) -> Row:
    """Make an environment, install the wheel, and run the trial."""
    subprocess.run([python, "-m", "venv", "--without-pip", str(folder / "venv")], check=True)
    own = str(folder / "venv" / "bin" / "python")
    asked = f"{built}[{environment.extras}]" if environment.extras else str(built)
    pip = [sys.executable, "-m", "pip", "--python", own]
    install = [*pip, "install", "--quiet", "--no-compile", *environment.pins, asked]
    row = Row(name=environment.name, python=environment.python, asked=_asked(environment), result="")
    finished = subprocess.run(install, check=False, capture_output=True, text=True)
    if finished.returncode:
        return replace(row, result=f"not installed: {_last(finished.stderr)}")
    listed = subprocess.run([*pip, "list", "--format", "json"], check=True, capture_output=True, text=True)
    known = {entry["name"].lower().replace("-", "_"): entry["version"] for entry in json.loads(listed.stdout)}
    versions = ", ".join(f"{name} {known[name]}" for name in SHOWN if name in known)
    place = folder / "work"
    place.mkdir()
    trial = [own, str(ROOT / "benchmarks" / "_environment_trial.py"), environment.trial]
    trial += [str(ROOT / "README.md")] if environment.trial == "recipes" else []
    ended = subprocess.run(trial, cwd=place, check=False, capture_output=True, text=True, env=_variables(environment))
    result = f"{environment.trial} failed: {_last(ended.stderr)}" if ended.returncode else f"{environment.trial} passed"
    return replace(row, versions=versions, megabytes=_megabytes(folder / "venv"), result=result)


def _variables(environment: Environment) -> dict[str, str]:
    backend = "jax" if "jax" in environment.extras else "torch"
    return {"KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3", "PATH": "/usr/bin:/bin", "HOME": "/nonexistent"}


def _asked(environment: Environment) -> str:
    name = f"keras3conv[{environment.extras}]" if environment.extras else "keras3conv"
    return " ".join([name, *environment.pins])


def _last(text: str) -> str:
    lines = [line for line in text.splitlines() if line.strip()]
    return lines[-1][:200].replace("|", "/") if lines else ""


def _megabytes(folder: Path) -> int:
    return round(
        sum(path.stat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink()) / 1e6
    )


def markdown(rows: Sequence[Row]) -> str:
    """Return the documentation page with a table of all environments."""
    heads = ("environment", "Python", "installed", "versions", "MB", "trial")
    cells = [
        (
            row.name,
            row.python,
            f"`{row.asked}`",
            row.versions,
            "" if row.megabytes is None else f"{row.megabytes:,}",
            row.result,
        )
        for row in rows
    ]
    lines = [heads, ("---", "---", "---", "---", "---:", "---"), *cells]
    there = {(row.python, row.asked) for row in rows}
    missing = [
        f"- {one.name}, Python {one.python}: `{_asked(one)}`"
        for one in ENVIRONMENTS
        if (one.python, _asked(one)) not in there
    ]
    left_out = ["", "Environments of the script that were not made this time:", "", *missing] if missing else []
    return "\n".join([ABOUT, *(f"| {' | '.join(line)} |" for line in lines), *left_out]) + "\n" + NOT_TRIED


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", action="append", default=[], metavar="VERSION=PROGRAM", help="a Python to use")
    parser.add_argument("--only", action="append", metavar="NAME", help="the environments with this name")
    parser.add_argument("--lines", type=Path, help="write the rows here, a line of JSON each")
    parser.add_argument("--keep", action="store_true", help="keep what --lines holds, and run only what is not there")
    parser.add_argument("--markdown", type=Path, help="write the table here")
    return parser.parse_args()


def main() -> None:
    """Install and try keras3conv in every environment, and write the page."""
    options = _options()
    pythons = dict(entry.split("=", 1) for entry in options.python)
    earlier = options.lines.read_text().splitlines() if options.keep and options.lines.exists() else []
    found = {(row.python, row.asked): row for row in (Row(**json.loads(line)) for line in earlier)}
    with tempfile.TemporaryDirectory() as folder:
        built = wheel(Path(folder))
        for environment in ENVIRONMENTS:
            key = environment.python, _asked(environment)
            if key in found or (options.only and environment.name not in options.only):
                continue
            with tempfile.TemporaryDirectory() as place:
                python = pythons.get(environment.python)
                row = tried(environment, python, built, Path(place)) if python else _without_python(environment)
            found[key] = row
            print(row, flush=True)
            if options.lines:
                options.lines.write_text("".join(json.dumps(asdict(each)) + "\n" for each in found.values()))
    if options.markdown:
        options.markdown.write_text(markdown(list(found.values())), encoding="utf-8")


def _without_python(environment: Environment) -> Row:
    result = f"not tried: no Python {environment.python} was given"
    return Row(name=environment.name, python=environment.python, asked=_asked(environment), result=result)


if __name__ == "__main__":
    main()
