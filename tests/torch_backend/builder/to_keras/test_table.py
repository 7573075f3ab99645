"""The page of torch's operators that are converted to Keras; run this file to write it."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from keras3conv.builder.to_keras import library
from keras3conv.builder.to_keras.call import HANDLERS, handler_of
from keras3conv.builder.to_keras.operations_refused import REASONS
from keras3conv.frameworks.torch.export import capture
from keras3conv.rules.operations import OPERATIONS
from tests.support.to_keras import Function
from tests.support.torch_cases import CASES

PAGE = Path(__file__).resolve().parents[4] / "docs" / "torch_operations.md"

_HEAD = """# The operators of torch in a Keras model

Written by `python tests/torch_backend/builder/to_keras/test_table.py`. An operator of `aten` is what a function of
torch becomes in `torch.export`; one that writes into its argument (`add_`) computes the same as the one that does not.
The second column has the test in which both frameworks compute it in float64, with axes of different sizes: a case of
`tests/support/torch_cases.py`; "table" for `tests/torch_backend/rules/test_operations.py`, which calls both functions
of an entry of `rules/operations.py`; "modules" for a test of layers or of whole modules beside the file above; or the
reason why the operator is refused.

| operator | test |
| --- | --- |"""


def operators(function: Any, shape: tuple[int, ...]) -> set[str]:
    """Return the operators that a function calls, by the names of their handlers."""
    graph = capture(Function(function).eval(), torch.randn(shape)).graph
    return {node.kind if node.kind in HANDLERS else node.kind.rpartition(".")[0] for node in graph.nodes}


def page() -> str:
    """Return the text of the page."""
    library.load()
    found: dict[str, str] = {}
    for name, (function, shape) in CASES.items():
        for kind in operators(function, shape):
            found.setdefault(kind, name)
    for kind in (name for entry in OPERATIONS for name in entry.aten):
        found.setdefault(kind, "table")
    found |= {f"aten.{name}": f"refused: {reason}" for name, reason in REASONS.items()}
    rows = [f"| `{kind.removeprefix('aten.')}` | {found.get(kind, 'modules')} |" for kind in sorted(HANDLERS)]
    return "\n".join([_HEAD, *rows, ""])


@pytest.mark.full
def test_the_documented_table_of_operators_is_up_to_date() -> None:
    assert PAGE.read_text(encoding="utf-8") == page()


def test_the_documented_table_has_every_operator_and_names_tests_that_exist() -> None:
    """The same without an export of every case, which `make test-full` does."""
    library.load()
    rows = dict(re.findall(r"^\| `([^`]+)` \| (.+) \|$", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE))
    assert list(rows) == [kind.removeprefix("aten.") for kind in sorted(HANDLERS)]
    refused = {name: f"refused: {reason}" for name, reason in REASONS.items()}
    assert refused.items() <= rows.items()
    assert {test for name, test in rows.items() if name not in refused} <= {*CASES, "table", "modules"}


def test_a_handler_is_found_by_the_overload_before_the_name() -> None:
    library.load()
    assert handler_of("aten.pow.Scalar") is HANDLERS["aten.pow.Scalar"]
    assert handler_of("aten.pow.Tensor_Scalar") is HANDLERS["aten.pow"]
    assert handler_of("aten.no_such_operator.default") is None


def test_the_operators_of_a_module_are_named() -> None:
    graph = capture(nn.Sequential(nn.Linear(4, 4), nn.ReLU()).eval(), torch.randn(2, 4)).graph
    assert [node.kind for node in graph.nodes] == ["aten.linear.default", "aten.relu.default"]


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
