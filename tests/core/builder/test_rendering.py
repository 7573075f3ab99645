"""The source code of an expression means what its tree says, with no more parentheses than it needs."""

import ast
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keras3conv.builder.program.operation import Dtype, Function, Operation, Submodule, operator
from keras3conv.builder.program.structure import Argument
from keras3conv.builder.source.rendering import rendered
from keras3conv.errors import RuleError
from keras3conv.model.graph import Ref, Size

F, ops = Function("torch.nn.functional"), Function("keras.ops")
BATCH, HALVED = Size(symbols=("batch",)), Size(symbols=("height", "width"), factor=2, offset=-1)


class Plain:
    """Every leaf by its own name."""

    def value(self, name: str) -> str:
        return name

    def symbol(self, name: str) -> str:
        return name

    def module(self, name: str) -> str:
        return f"self.{name}"

    def function(self, name: str) -> str:
        return name.replace("keras.ops.", "ops.").replace("torch.nn.functional.", "F.")

    def dtype(self, name: str) -> str:
        return f'"{name}"'


x, y = Ref("x"), Ref("y")
total = operator("+", x, y)

EXAMPLES: list[tuple[Any, str]] = [
    (operator("*", total, 2), "(x + y) * 2"),
    (operator("+", total, 2), "x + y + 2"),
    (operator("-", x, operator("-", y, 1)), "x - (y - 1)"),
    (operator("**", x, operator("/", 1, 3)), "x ** (1 / 3)"),
    (operator("**", -2, x), "(-2) ** x"),
    (F.threshold(x, -0.3, float("-inf")), 'F.threshold(x, -0.3, float("-inf"))'),
    (total.method("sum", dim=(1, 2)).method("to", Dtype("int32")), '(x + y).sum(dim=(1, 2)).to("int32")'),
    (operator("~", x).method("any"), "(~x).any()"),
    (total.attribute("shape")[0], "(x + y).shape[0]"),
    (
        operator("[]", x, (..., None, slice(None), slice(1, -1), slice(None, None, 2), 0)),
        "x[..., None, :, 1:-1, ::2, 0]",
    ),
    (operator("[]", x, (slice(None), [2, 0])), "x[:, [2, 0]]"),
    (Submodule("conv")(x, mask=y), "self.conv(x, mask=y)"),
    (operator("*", x, HALVED), "x * (2 * height * width - 1)"),
    (operator("[]", x, slice(BATCH, HALVED)), "x[batch:2 * height * width - 1]"),
    (ops.concatenate([x, y], axis=-1), "ops.concatenate([x, y], axis=-1)"),
    (ops.where(x, -1e9, 1e-05), "ops.where(x, -1e9, 1e-05)"),
    ((F.relu(x), (y,)), "F.relu(x), y"),
]


@pytest.mark.parametrize(("expression", "text"), EXAMPLES, ids=[text for _, text in EXAMPLES])
def test_an_expression_is_rendered_without_unnecessary_parentheses(expression: Any, text: str) -> None:
    assert rendered(expression, Plain()) == text


SIGNS = ("+", "-", "*", "/", "//", "%", "@", "**", "&", "|", "^", "<<", ">>", "<", ">=", "==", "!=")


def combined(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.one_of(
        st.builds(operator, st.sampled_from(SIGNS), inner, inner),
        st.builds(operator, st.sampled_from("-~"), inner),
        st.builds(lambda one: Operation("method", "sum", (one,), {"dim": 1}), inner.filter(is_no_number)),
        st.builds(lambda one, key: operator("[]", one, key), inner.filter(is_no_number), inner),
    )


def is_no_number(node: Any) -> bool:
    return not isinstance(node, int)


TREES = st.recursive(st.sampled_from([x, y, HALVED, 3, -2]), combined, max_leaves=8)


def with_all_parentheses(node: Any) -> str:
    if not isinstance(node, Operation):
        return f"({rendered(node, Plain())})"
    operands = [with_all_parentheses(item) for item in node.args]
    if node.kind == "method":
        return f"({operands[0]}.sum(dim=1))"
    if node.name == "[]":
        return f"({operands[0]}[{operands[1]}])"
    return f"({node.name}{operands[0]})" if len(operands) == 1 else f"({operands[0]} {node.name} {operands[1]})"


@pytest.mark.slow
@given(TREES)
def test_the_parentheses_keep_the_order_of_the_operations(tree: Any) -> None:
    assert ast.dump(ast.parse(rendered(tree, Plain()))) == ast.dump(ast.parse(with_all_parentheses(tree)))


def test_a_value_that_is_not_plain_is_never_rendered() -> None:
    with pytest.raises(RuleError, match="cannot be written into source code"):
        rendered(F.relu(object()), Plain())


def test_a_formula_of_an_argument_is_an_operand_in_parentheses() -> None:
    assert rendered(operator("/", x, Argument("2 * size")), Plain()) == "x / (2 * size)"
    assert rendered(operator("*", x, Argument("size ** -0.5")), Plain()) == "x * size ** -0.5"
    assert rendered(operator("+", x, Argument("2 * size")), Plain()) == "x + 2 * size"
    assert rendered(operator("/", x, Argument("size")), Plain()) == "x / size"
