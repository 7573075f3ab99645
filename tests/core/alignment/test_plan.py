"""Plans: edits return new plans, all problems are in one error, and JSON restores an equal plan."""

import json
from dataclasses import replace

import pytest

from keras3conv.alignment.plan import Alignment
from keras3conv.errors import AlignmentError
from keras3conv.model.views import LayerView, TensorRef
from keras3conv.planner.plan import plan
from tests.core.planner.test_plan import dense, keras_model, linear, torch_model


@pytest.fixture
def complete() -> Alignment:
    torch = torch_model(linear("stem", 3, 4, 0), linear("body", 4, 4, 1), linear("head", 4, 4, 2))
    keras = keras_model(dense("a", 3, 4, 0), dense("b", 4, 4, 1), dense("c", 4, 4, 2))
    return plan(torch, keras).check()


def test_an_edit_returns_a_new_plan_and_keeps_the_old_plan(complete: Alignment) -> None:
    swapped = complete.pair("body", "c").pair("head", "b")
    assert {pair.torch: pair.keras for pair in swapped.check().pairs} == {"stem": "a", "body": "c", "head": "b"}
    assert {pair.torch: pair.keras for pair in complete.pairs} == {"stem": "a", "body": "b", "head": "c"}
    assert swapped.of("body").decided_by == "by hand"  # type: ignore[union-attr]


def test_unpairing_two_layers_reports_both_as_problems(complete: Alignment) -> None:
    problems = complete.unpair("stem").problems()
    assert [(problem.torch, problem.keras) for problem in problems] == [("stem", ""), ("", "a")]
    assert "would keep its initial value" in problems[1].fact
    assert problems[0].fixes[0] == 'plan = plan.pair("stem", "a")'


def test_an_ignored_tensor_is_not_a_problem_and_has_a_reason(complete: Alignment) -> None:
    edited = complete.unpair("stem").ignore("stem", "not wanted").ignore("a/kernel", "kept").ignore("a/bias", "kept")
    assert edited.check().ignored[0].reason == "not wanted"
    assert [entry.path for entry in edited.ignored] == ["stem.weight", "stem.bias", "a/kernel", "a/bias"]


def test_ignoring_an_unknown_name_is_an_error(complete: Alignment) -> None:
    with pytest.raises(AlignmentError, match="neither model has a layer or a tensor of this name"):
        complete.ignore("steam", "typo")


def test_pairing_an_unknown_name_is_an_error_with_the_nearest_names(complete: Alignment) -> None:
    with pytest.raises(
        AlignmentError,
        match=("stam  \\(torch\\)  the model has neither a layer nor a tensor of this name; similar names are stem, "),
    ):
        complete.pair("stam", "a")


def test_pairing_a_layer_without_the_tensors_of_the_rule_is_an_error_that_names_them() -> None:
    packed = (TensorRef(path="a.packed", role="packed", shape=(12, 4)),)
    torch = torch_model(LayerView(path="a", tensors=packed, config=None))
    keras = keras_model(dense("qkv", 4, 12))
    with pytest.raises(
        AlignmentError, match=r"the rule for this pair needs the tensor a\.weight, .*which the layer does not have"
    ):
        plan(torch, keras).pair(["a"], ["qkv"])


def test_a_tensor_in_two_mappings_is_a_problem(complete: Alignment) -> None:
    doubled = replace(complete, pairs=(*complete.pairs, complete.pairs[0]))
    assert {problem.torch or problem.keras for problem in doubled.problems()} == {
        "stem.weight",
        "stem.bias",
        "a/kernel",
        "a/bias",
    }


def test_a_plan_read_from_its_json_is_equal(complete: Alignment) -> None:
    again = Alignment.from_json(complete.to_json())
    assert again == complete
    assert again.unpair("stem").pair("stem", "a").check().pairs[-1].keras == "a"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "it is not JSON"),
        ("[]", 'the JSON is not a plan: it has no entry "keras3conv": "alignment"'),
        (
            '{"keras3conv": "alignment", "format": 99}',
            "the plan has the format 99, but this version of keras3conv reads the format 1",
        ),
        ('{"keras3conv": "alignment", "format": 1}', "not a plan (KeyError: 'pairs'"),
        ("[" * 100_000, "it is not JSON"),
    ],
)
def test_a_text_that_is_not_a_plan_is_refused(text: str, message: str) -> None:
    with pytest.raises(AlignmentError, match=message.replace("(", r"\(")):
        Alignment.from_json(text)


def test_a_plan_whose_shapes_were_edited_is_refused(complete: Alignment) -> None:
    data = json.loads(complete.to_json())
    data["torch"]["layers"][0]["tensors"][0]["shape"] = [9, 9]
    with pytest.raises(AlignmentError, match="do not match the fingerprint in the JSON"):
        Alignment.from_json(json.dumps(data))


def test_an_unknown_transform_in_a_plan_is_refused(complete: Alignment) -> None:
    data = json.loads(complete.to_json())
    data["pairs"][0]["weights"][0]["transform"] = {"run": "rm -rf /"}
    with pytest.raises(AlignmentError, match="not a transform"):
        Alignment.from_json(json.dumps(data))
