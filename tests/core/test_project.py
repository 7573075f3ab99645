"""The house rules: which way imports point, what an import costs, what is packed, how long code may be."""

import ast
import importlib
import os
import subprocess
import sys
import tomllib
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "keras3conv"
FRAMEWORKS = ("torch", "keras", "jax", "tensorflow")

# Modules import from their own level and from the levels above them in this table, never from below. A module that
# was split keeps its place: report_html stands where report does.
LEVELS = (
    ("errors", "transforms", "compare"),
    ("model", "rule", "report", "graph"),
    ("rules",),
    ("alignment", "planner", "audit", "_transfer"),
    ("formats", "frameworks"),
    ("builder",),
    ("validators",),
    ("__init__", "__main__", "api", "cli", "demo"),
)
LEVEL = {name: level for level, names in enumerate(LEVELS) for name in names}

FORBIDDEN = ("except Exception", "weights_only=False", "allow_pickle=True", "safe_mode=False")

LONGEST_FILE = 400
LONGEST_FUNCTION = 60
LONGEST_RULE = 12
"""Lines of nine rules out of ten, from `Rule(` to its bracket."""


def sources() -> list[Path]:
    """The package's files. The symlinked validators are walked by their own name: a walk does not follow links."""
    own = [path for path in PACKAGE.rglob("*.py") if "validators" not in path.relative_to(PACKAGE).parts]
    return sorted([*own, *(PACKAGE / "validators").rglob("*.py")])


def entry(module: str) -> str:
    """The name in the table for a module: `planner` for `planner.probe`, `report` for `report_html`."""
    first = module.partition(".")[0]
    return first if first in LEVEL else first.partition("_")[0]


def module_level(tree: ast.AST) -> Iterator[ast.stmt]:
    """The import statements that run when the module is imported: those outside of functions."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield node
        elif not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            yield from module_level(node)


def imported(statement: ast.stmt) -> Iterator[str]:
    """The modules of the table that an import statement names."""
    if isinstance(statement, ast.Import):
        names = [alias.name for alias in statement.names]
    elif isinstance(statement, ast.ImportFrom) and statement.module == "keras3conv":
        names = [f"keras3conv.{alias.name}" for alias in statement.names]
    elif isinstance(statement, ast.ImportFrom):
        names = [statement.module or ""]
    else:
        names = []
    for name in names:
        package, _, rest = name.partition(".")
        if package == "keras3conv":
            yield entry(rest) if entry(rest) in LEVEL else "__init__"


def arrows_up(path: Path, text: str) -> list[str]:
    """What a file imports at module level from a level it must not know."""
    name = ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
    module = entry(name)
    if module not in LEVEL:
        return [f"{name} has no place in LEVELS"]
    targets = [target for statement in module_level(ast.parse(text)) for target in imported(statement)]
    return [f"{path.name}: {module} -> {target}" for target in targets if LEVEL[target] > LEVEL[module]]


def functions(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """Every function with its length in lines."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.name, (node.end_lineno or node.lineno) - node.lineno + 1


def too_long(path: Path, text: str) -> list[str]:
    """The file, and its functions, if they are over the limits."""
    lines = text.count("\n")
    found = [f"{path.name}: {lines} lines"] if lines > LONGEST_FILE else []
    lengths = functions(ast.parse(text))
    return found + [f"{path.name}: {name}, {length} lines" for name, length in lengths if length > LONGEST_FUNCTION]


def rule_lengths(tree: ast.AST) -> Iterator[int]:
    """The lines of every `Rule(...)`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Rule":
            yield (node.end_lineno or node.lineno) - node.lineno + 1


def ninth_tenth(lengths: Iterable[int]) -> int:
    """The length that nine out of ten do not exceed."""
    ordered = sorted(lengths)
    return ordered[-(-len(ordered) * 9 // 10) - 1]


def forbidden(path: Path, text: str) -> list[str]:
    """The forbidden words that a file holds."""
    return [f"{path.name}: {word}" for word in FORBIDDEN if word in text]


def assert_none(facts: Iterable[str]) -> None:
    """Fails with every fact on a line of its own."""
    found = sorted(facts)
    assert not found, "\n".join(["", *found])


def python(*arguments: str) -> str:
    """What a fresh interpreter prints that sees this checkout."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    finished = subprocess.run(
        [sys.executable, *arguments], env=environment, capture_output=True, text=True, check=False, timeout=300
    )
    assert finished.returncode == 0, finished.stdout + finished.stderr
    return finished.stdout


def test_imports_point_one_way() -> None:
    assert_none(arrow for path in sources() for arrow in arrows_up(path, path.read_text()))


@pytest.mark.parametrize(
    "line",
    [
        "from keras3conv.formats.legacy_h5 import read",
        "import keras3conv.formats",
        "from keras3conv import formats",
        "from keras3conv import align",
        "if True:\n    from keras3conv.formats import read",
        "class Lazy:\n    from keras3conv.formats import read",
    ],
)
def test_an_import_that_points_up_is_noticed(line: str) -> None:
    assert len(arrows_up(PACKAGE / "planner" / "names.py", line)) == 1


def test_an_import_inside_a_function_is_free_to_point_anywhere() -> None:
    assert arrows_up(PACKAGE / "rule.py", "def load() -> None:\n    import keras3conv.rules\n") == []


def test_only_a_module_without_a_place_in_the_order_is_noticed() -> None:
    assert arrows_up(PACKAGE / "report_html.py", "from keras3conv.rule import Rule") == []
    assert arrows_up(PACKAGE / "helpers.py", "") == ["helpers has no place in LEVELS"]


def test_files_and_functions_are_short() -> None:
    assert_none(fact for path in sources() for fact in too_long(path, path.read_text()))


def test_a_long_file_and_a_long_function_are_noticed() -> None:
    text = "def endless() -> None:\n" + "    pass\n" * LONGEST_FILE
    assert too_long(PACKAGE / "model.py", text) == ["model.py: 401 lines", "model.py: endless, 401 lines"]


def test_a_rule_is_short() -> None:
    lengths = [length for path in sources() for length in rule_lengths(ast.parse(path.read_text()))]
    assert len(lengths) > 80
    assert ninth_tenth(lengths) <= LONGEST_RULE


def test_rules_that_are_too_long_are_noticed() -> None:
    (length,) = rule_lengths(ast.parse("register(\n    Rule(\n" + "        field=1,\n" * LONGEST_RULE + "    )\n)\n"))
    assert length == LONGEST_RULE + 2
    assert ninth_tenth([2] * 9 + [length]) == 2
    assert ninth_tenth([2] * 8 + [length] * 2) > LONGEST_RULE


def test_no_source_holds_a_forbidden_word() -> None:
    assert_none(fact for path in sources() for fact in forbidden(path, path.read_text()))


@pytest.mark.parametrize("word", FORBIDDEN)
def test_a_forbidden_word_is_noticed(word: str) -> None:
    assert forbidden(PACKAGE / "model.py", f"value = 1  # {word}\n") == [f"model.py: {word}"]


def test_the_validators_are_among_the_sources_that_are_checked() -> None:
    assert (PACKAGE / "validators").readlink() == Path("../validators")
    assert PACKAGE / "validators" / "__init__.py" in sources()


def test_importing_the_package_brings_in_nothing_heavy() -> None:
    heavy = {*FRAMEWORKS, "onnx", "onnxruntime", "h5py", "safetensors", "scipy", "rich", "typer", "jinja2"}
    loaded = set(python("-c", "import sys, keras3conv; print(*sys.modules)").split())
    assert "keras3conv" in loaded
    assert_none(heavy & loaded)


def test_every_direct_dependency_is_pinned() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [
        *project["dependencies"],
        *(line for lines in project["optional-dependencies"].values() for line in lines),
    ]
    pins = {line.partition("==")[0].lower() for line in (ROOT / "constraints.txt").read_text().splitlines()}
    names = {line.partition(">=")[0].partition("[")[0].lower() for line in wanted}
    assert_none(names - pins - {"keras3conv"})


@pytest.mark.last
def test_no_test_of_the_core_imported_a_framework() -> None:
    assert [name for name in FRAMEWORKS if name in sys.modules] == []


def test_a_public_function_stays_one_where_a_module_has_its_name() -> None:
    import keras3conv as k3c

    for name in k3c.__all__:
        if (PACKAGE / name).exists() or (PACKAGE / f"{name}.py").exists():
            importlib.import_module(f"keras3conv.{name}")
            assert callable(getattr(k3c, name)), name
