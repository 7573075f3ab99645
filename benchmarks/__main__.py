"""List the benchmarks of this folder, or run the named benchmark with its arguments."""

import ast
import runpy
import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).parent

CHECKED = ("speed", "scaling")
"""The benchmarks that `--check` runs."""


def scripts() -> dict[str, str]:
    """Return the benchmarks by name, each with the first line of its docstring."""
    found = {}
    for path in sorted(FOLDER.glob("*.py")):
        if not path.stem.startswith("_"):
            docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
            found[path.stem] = docstring.partition("\n")[0]
    return found


def main(arguments: list[str]) -> int:
    """Run the named benchmark; return the exit status, 2 for an unknown benchmark.

    Args:
        arguments: The name of a benchmark and its own arguments; without any, the benchmarks are listed. `--check` runs
            `speed` and `scaling`, and the exit status is 1 if a target is missed.
    """
    if arguments == ["--check"]:
        command = [sys.executable, "-m", "benchmarks"]
        return max(subprocess.run([*command, name, "--check"], check=False).returncode for name in CHECKED)
    known = scripts()
    name = arguments[0].replace("-", "_") if arguments else ""
    if name not in known:
        if name:
            print(f"no benchmark is called {name!r}", file=sys.stderr)
        width = max(map(len, known), default=0)
        for script, summary in known.items():
            print(f"{script:<{width}}  {summary}")
        if not known:
            print("there are no benchmarks yet")
        return 2 if name else 0
    sys.argv = [name, *arguments[1:]]
    runpy.run_module(f"benchmarks.{name}", run_name="__main__")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
