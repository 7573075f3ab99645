"""Operations are plain data: they can be compared, searched and rewritten without looking at text."""

from keras3conv.builder.program.operation import (
    Dtype,
    Function,
    Operation,
    Submodule,
    chained,
    operator,
    references,
    signature,
    transformed,
    walk,
)
from keras3conv.builder.program.program import Program, Step, Value
from keras3conv.builder.program.variables import variable_names
from keras3conv.model.graph import Ref, Size

torch = Function("torch")
X, Y = (Value(name=name, shape=(2, 3), order=(0, 1)) for name in "xy")


def test_python_operators_make_operations() -> None:
    made = torch.where(X > 0, X * 2, -Y)
    assert made == Operation(
        "function",
        "torch.where",
        (Operation("operator", ">", (X, 0)), Operation("operator", "*", (X, 2)), Operation("operator", "-", (Y,))),
    )


def test_a_namespace_has_functions_and_namespaces() -> None:
    assert torch.linalg.cross(X, Y, dim=1) == Operation("function", "torch.linalg.cross", (X, Y), {"dim": 1})


def test_operands_are_joined_from_left_to_right() -> None:
    assert chained("+", [X, Y, 1]) == operator("+", operator("+", X, Y), 1)


def test_references_are_in_the_order_of_the_text() -> None:
    a, b, c = map(Ref, "abc")
    expression = torch.cat([b, operator("+", a, b)], dim=c)
    assert references(expression) == ("b", "a", "b", "c")


def test_walk_visits_operations_before_their_arguments() -> None:
    inner = operator("-", Ref("x"))
    assert [*walk(torch.abs(inner))] == [torch.abs(inner), inner, Ref("x")]


def test_a_transformation_reaches_nested_arguments_and_keeps_their_structure() -> None:
    expression = torch.cat([Ref("x"), (Ref("x"), slice(Ref("x"), None))], out={"y": Ref("x")})
    renamed = transformed(expression, lambda node: Ref("z") if node == Ref("x") else node)
    assert renamed == torch.cat([Ref("z"), (Ref("z"), slice(Ref("z"), None))], out={"y": Ref("z")})


def test_signatures_are_equal_for_other_values_and_differ_for_other_literals() -> None:
    assert signature(torch.add(Ref("x"), 3)) == signature(torch.add(Ref("y"), 3))
    assert len({signature(torch.add(Ref("x"), other)) for other in (3, 3.0, True, "3", [3], (3,), Dtype("3"))}) == 7


def test_a_step_lists_its_inputs_its_module_and_its_symbols() -> None:
    size = Size(symbols=("batch", "length"))
    step = Step(expression=Submodule("conv")(Ref("x")).method("reshape", size, -1), outputs=("y",))
    assert (step.inputs, step.module, step.symbols) == (("x",), "conv", frozenset({"batch", "length"}))


def test_the_result_of_where_reuses_the_variable_of_an_operand_and_not_of_the_mask() -> None:
    mask = Value(name="mask", shape=(2, 3), order=(0, 1), dtype="bool")
    made = Value(name="made", shape=(2, 3), order=(0, 1))
    program = Program(
        name="",
        inputs=(mask, X),
        input_names={"mask": "y", "x": "x"},
        steps=(Step(expression=torch.where(Ref("mask"), Ref("x"), 0.0), outputs=("made",)),),
        outputs=Ref("made"),
        values={value.name: value for value in (mask, X, made)},
    )
    assert variable_names(program).of["made"] == "x"
