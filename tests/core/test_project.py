"""The rules of the code base: direction and cost of imports, confined internals, lengths of files and functions."""

import ast
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Container, Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "keras3conv"
FRAMEWORKS = ("torch", "keras", "jax", "tensorflow")

LAYERS = (
    "width",
    "errors",
    "garbage",
    "collapsing",
    "steps",
    "fixes",
    "messages",
    "writing",
    "transforms",
    "model",
    "numerics",
    "report",
    "rules",
    "alignment",
    "formats",
    "frameworks",
    "planner",
    "builder",
    "validators",
    "workflows",
    "api",
    "__init__",
    "demo",
    "cli",
    "__main__",
)
"""The top-level packages and modules, the lowest first; each imports only from those before it."""

FORBIDDEN = ("except Exception", "weights_only=False", "allow_pickle=True", "safe_mode=False")

CONFINED = {
    r"\bkeras\.src\b": "frameworks/keras/internals.py",
    r"\b(?:Layer|Operation|Variable)\.\w+ = ": "frameworks/keras/observing.py",
    r"\bregister_\w*hook\(": "frameworks/torch/observing.py",
    r"\btorch\.load\((?!\"\{path\}\", weights_only=True\))": "report/card.py",  # a line to paste is no code of ours
    r"\bstr\(error\)": "errors.py",
    r"\b[Aa]n? \{(?!'an')": "messages.py",
    r"\b[Aa] (?!one|us[aeiu]|uni|eu|uint)[aeiou]\w": "messages.py",
    r"\b[Aa]n (?![aeiouAEFHILMNORSUX]|hour|nn\.|f-)\w|\bno an? \w": "messages.py",
}
"""Patterns of internals of Keras, hooks, pickles, folded messages and articles, each with the only file for it."""

LONGEST_FILE = 300
LONGEST_FUNCTION = 60
LONGEST_RULE = 12
"""The number of lines that nine of ten rules do not exceed, from `Rule(` to its closing bracket."""


def sources() -> list[Path]:
    """Return the files of the package; `rglob` does not follow the link to the validators, so they are listed apart."""
    own = [path for path in PACKAGE.rglob("*.py") if "validators" not in path.relative_to(PACKAGE).parts]
    return sorted([*own, *(PACKAGE / "validators").rglob("*.py")])


def module_name(path: Path) -> str:
    """Return the name by which a file is imported, without `keras3conv.`; the package itself is `__init__`."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if len(parts) > 1 and parts[-1] == "__init__" else parts)


@cache
def nodes(text: str) -> tuple[ast.AST, ...]:
    """Return the syntax tree of a source as a flat tuple; cached, because several tests read each file."""
    return tuple(ast.walk(ast.parse(text)))


def imported_modules(text: str, known: Container[str]) -> Iterator[str]:
    """Yield the modules of the package that a source imports, those imported inside functions included.

    Imports for annotations only (`if TYPE_CHECKING`) count too: a type that a module names is a dependency.
    """
    for node in nodes(text):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            if name.split(".")[0] == "keras3conv":
                yield _module_of(name.partition(".")[2], known)


def _module_of(name: str, known: Container[str]) -> str:
    """Return the module for an imported name: the name itself if it is a module, else the module that holds it."""
    while name and name not in known:
        name = name.rpartition(".")[0]
    return name or "__init__"


@cache
def import_graph() -> dict[str, set[str]]:
    """Return the modules that each module of the package imports."""
    texts = {module_name(path): path.read_text() for path in sources()}
    return {name: set(imported_modules(text, texts)) for name, text in texts.items()}


def against_the_layers(graph: Mapping[str, Iterable[str]]) -> list[str]:
    """Return the imports from a layer of a higher one, and the modules without a layer."""
    problems = []
    for module, targets in graph.items():
        layer = module.partition(".")[0]
        if layer not in LAYERS:
            problems.append(f"{module} stands in no layer")
            continue
        level = LAYERS.index(layer)
        upper = [target for target in targets if LAYERS.index(target.partition(".")[0]) > level]
        problems.extend(f"{module} imports {target}" for target in upper)
    return problems


def circular_imports(graph: Mapping[str, Iterable[str]]) -> list[str]:
    """Return one circle of imports as text for each module that closes one."""
    circles: list[str] = []
    finished: set[str] = set()

    def follow(module: str, path: tuple[str, ...]) -> None:
        if module in path:
            circles.append(" -> ".join((*path[path.index(module) :], module)))
        elif module not in finished:
            for target in sorted(graph.get(module, ())):
                follow(target, (*path, module))
            finished.add(module)

    for module in graph:
        follow(module, ())
    return circles


def functions(text: str) -> Iterator[tuple[str, int]]:
    """Yield every function with its number of lines."""
    for node in nodes(text):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.name, (node.end_lineno or node.lineno) - node.lineno + 1


def too_long(path: Path, text: str) -> list[str]:
    """Return the file and the functions in it that exceed the limits."""
    lines = text.count("\n")
    found = [f"{path.name}: {lines} lines"] if lines > LONGEST_FILE else []
    lengths = functions(text)
    return found + [f"{path.name}: {name}, {length} lines" for name, length in lengths if length > LONGEST_FUNCTION]


def rule_lengths(text: str) -> Iterator[int]:
    """Yield the number of lines of every `Rule(...)`."""
    for node in nodes(text):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Rule":
            yield (node.end_lineno or node.lineno) - node.lineno + 1


def ninth_tenth(lengths: Iterable[int]) -> int:
    """Return the length that nine of ten do not exceed."""
    ordered = sorted(lengths)
    return ordered[-(-len(ordered) * 9 // 10) - 1]


def forbidden(path: Path, text: str) -> list[str]:
    """Return the forbidden words in a file."""
    return [f"{path.name}: {word}" for word in FORBIDDEN if word in text]


def outside_their_file(path: Path, text: str) -> list[str]:
    """Return the confined patterns that a source matches outside the only file that may use them."""
    name = path.relative_to(PACKAGE).as_posix()
    return [
        f"{name}: {found[0]}"
        for pattern, only in CONFINED.items()
        if name != only and (found := re.search(pattern, text))
    ]


def assert_none(facts: Iterable[str]) -> None:
    """Assert that there are no facts; the message has one fact a line."""
    found = sorted(facts)
    assert not found, "\n".join(["", *found])


def python(*arguments: str) -> str:
    """Return the output of a new interpreter that imports this checkout."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    finished = subprocess.run(
        [sys.executable, *arguments], env=environment, capture_output=True, text=True, check=False
    )
    assert finished.returncode == 0, finished.stdout + finished.stderr
    return finished.stdout


@pytest.mark.slow
def test_imports_point_from_upper_layers_to_lower_ones() -> None:
    assert_none(against_the_layers(import_graph()))


@pytest.mark.slow
def test_no_files_import_each_other_in_a_circle() -> None:
    assert_none(circular_imports(import_graph()))


@pytest.mark.parametrize(
    "line",
    [
        "from keras3conv.formats.keras.legacy_h5 import read",
        "import keras3conv.formats",
        "from keras3conv import formats",
        "if True:\n    from keras3conv.formats import read",
        "class Lazy:\n    from keras3conv.formats import read",
        "def load() -> None:\n    from keras3conv.formats import read",
        "if TYPE_CHECKING:\n    from keras3conv.formats import read",
    ],
)
def test_the_check_detects_an_import_of_an_upper_layer(line: str) -> None:
    known = ("formats", "formats.keras.legacy_h5")
    assert len(against_the_layers({"rules.rule": set(imported_modules(line, known))})) == 1


def test_the_check_detects_a_module_without_a_layer() -> None:
    assert against_the_layers({"helpers": set()}) == ["helpers stands in no layer"]


def test_the_check_detects_circular_imports() -> None:
    assert circular_imports({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) == ["a -> b -> c -> a"]
    assert circular_imports({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == []


@pytest.mark.slow
def test_files_and_functions_are_short() -> None:
    assert_none(fact for path in sources() for fact in too_long(path, path.read_text()))


def test_the_check_detects_a_long_file_and_a_long_function() -> None:
    text = "def endless() -> None:\n" + "    pass\n" * LONGEST_FILE
    expected = ["model.py: 301 lines", "model.py: endless, 301 lines"]
    assert too_long(PACKAGE / "model.py", text) == expected


@pytest.mark.slow
def test_a_rule_is_short() -> None:
    lengths = [length for path in sources() for length in rule_lengths(path.read_text())]
    assert len(lengths) > 80
    assert ninth_tenth(lengths) <= LONGEST_RULE


def test_the_check_detects_rules_that_are_too_long() -> None:
    (length,) = rule_lengths("register(\n    Rule(\n" + "        field=1,\n" * LONGEST_RULE + "    )\n)\n")
    assert length == LONGEST_RULE + 2
    assert ninth_tenth([2] * 9 + [length]) == 2
    assert ninth_tenth([2] * 8 + [length] * 2) > LONGEST_RULE


def test_no_source_holds_a_forbidden_word() -> None:
    assert_none(fact for path in sources() for fact in forbidden(path, path.read_text()))


@pytest.mark.parametrize("word", FORBIDDEN)
def test_the_check_detects_a_forbidden_word(word: str) -> None:
    assert forbidden(PACKAGE / "model.py", f"value = 1  # {word}\n") == [f"model.py: {word}"]


@pytest.mark.slow
def test_internals_of_keras_and_hooks_are_used_in_one_file_each() -> None:
    assert_none(fact for path in sources() for fact in outside_their_file(path, path.read_text()))


@pytest.mark.parametrize(
    "line",
    [
        "import keras.src.ops",
        "from keras.src.backend import any_symbolic_tensors",
        'if module.startswith("keras.src.layers."):',
        "keras.layers.Layer.__call__ = intercept",
        "keras.Operation.symbolic_call = intercept",
        "keras.Variable.assign = lambda *_: None",
        "handle = child.register_forward_hook(note)",
        "handle = child.register_forward_pre_hook(note, with_kwargs=True)",
        "tensor.register_hook(note)",
        'raise InputError(f"{name} returned a {kind}")',
        'raise InputError(f"{name} is no a torch checkpoint")',
        'raise InputError("an tensor")',
        'raise InputError("a array")',
        "reason = str(error)",
    ],
)
def test_the_check_detects_keras_internals_and_hooks_in_another_file(line: str) -> None:
    assert len(outside_their_file(PACKAGE / "planner" / "probe" / "run_keras.py", line)) == 1


@pytest.mark.parametrize(
    ("line", "only"),
    [
        ("import keras.src.ops", "frameworks/keras/internals.py"),
        ("keras.layers.Layer.__call__ = intercept", "frameworks/keras/observing.py"),
        ("handle = child.register_forward_hook(note)", "frameworks/torch/observing.py"),
    ],
)
def test_internals_of_keras_and_hooks_are_allowed_in_their_file(line: str, only: str) -> None:
    assert (PACKAGE / only).is_file()
    assert outside_their_file(PACKAGE / only, line) == []


def test_the_validators_are_among_the_sources_that_are_checked() -> None:
    assert (PACKAGE / "validators").readlink() == Path("../validators")
    assert PACKAGE / "validators" / "__init__.py" in sources()


def test_importing_the_package_imports_no_framework() -> None:
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


def test_every_public_name_is_importable_from_the_module_that_is_listed_for_it() -> None:
    import keras3conv as k3c

    assert k3c._MODULE_OF.keys() == set(k3c.__all__)
    assert all(callable(getattr(k3c, name)) for name in k3c.__all__)


def test_the_transforms_are_an_attribute_of_the_package_in_a_new_process() -> None:
    code = "import keras3conv as k3c; k3c.transforms.Concat; k3c.errors.FileError"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
