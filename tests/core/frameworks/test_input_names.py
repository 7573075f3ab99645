"""The names of inputs: an only array is given to the only input and noted; other wrong names are errors."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from keras3conv.errors import InputError
from keras3conv.frameworks.shared.inputs_named import OneArray, only_array, require_arguments
from keras3conv.frameworks.shared.inputs_of_keras import fitted
from keras3conv.frameworks.sides import both_inputs
from keras3conv.model.views import InputSpec, ModelView
from keras3conv.workflows.files import read_inputs, read_labels

X = np.ones((2, 4), np.float32)
DERIVED = "inputs given; those of Keras are the same arrays in Keras' layout"
FROM_KERAS = "inputs given for Keras; those of torch are the same arrays in torch's layout"


def torch_model(*names: str, required: int | None = None) -> ModelView:
    required = required or len(names)
    return ModelView(side="torch", name="Net", layers=(), arguments=names, required=required, keywords=names)


def keras_model(*names: str) -> ModelView:
    specs = tuple(InputSpec(name=name, shape=(None, 4), dtype="float32") for name in names)
    return ModelView(side="keras", name="net", layers=(), input_specs=specs)


@pytest.mark.parametrize(
    ("given", "note"),
    [
        ({"inputs": {"x": X}}, f"{DERIVED}; the input 'x' was given to 'image'"),
        ({"inputs": {"image": X}}, DERIVED),
        ({"inputs": {"picture": X}}, DERIVED),
        ({"inputs": X}, DERIVED),
        ({"keras_inputs": {"x": X}}, f"{FROM_KERAS}; the input 'x' was given to 'picture'"),
        ({"keras_inputs": {"picture": X}}, FROM_KERAS),
        ({"keras_inputs": {"image": X}}, FROM_KERAS),
    ],
)
def test_an_only_array_of_another_name_is_given_to_the_only_input_and_noted(given: dict[str, Any], note: str) -> None:
    sides = torch_model("image", "mask", required=1), keras_model("picture")
    made = both_inputs(*sides, **{"inputs": None, "keras_inputs": None, **given})
    assert made.note == note
    arrays = [*made.torch.values()] if isinstance(made.torch, dict) else [*np.atleast_3d(made.torch)]
    assert np.array_equal(np.reshape(arrays, X.shape), X)
    assert np.array_equal(made.keras, X)


def test_an_array_for_an_optional_input_is_not_given_to_another_one() -> None:
    assert only_array({"mask": X}, ("image", "mask"), required=1) == ({"mask": X}, "")


def test_a_wrong_name_among_several_keras_inputs_is_an_error() -> None:
    sides = torch_model("left", "right"), keras_model("left", "right")
    both_inputs(*sides, None, {"right": X, "left": X})
    with pytest.raises(
        InputError, match=r"keras_inputs has rigth, and no right: the inputs of net \(keras\) are left, right"
    ):
        both_inputs(*sides, None, {"left": X, "rigth": X})


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"ids": X, "maks": X}, "inputs has maks, and no mask"),
        ({"ids": X}, "inputs has no mask"),
        ({"ids": X, "mask": X, "more": X}, "inputs has more"),
        ({"left": X, "right": X}, "inputs has left and right, and no ids and mask"),
    ],
)
def test_a_wrong_name_among_several_torch_inputs_is_an_error(given: dict[str, Any], message: str) -> None:
    sides = torch_model("ids", "mask", "labels", required=2), keras_model("ids", "mask")
    with pytest.raises(InputError) as caught:
        both_inputs(*sides, given, None)
    assert str(caught.value) == (
        f'{message}: the arguments of Net (torch) are ids, mask, labels\nFix:  inputs={{"ids": ids, "mask": mask}}'
    )


def test_names_that_a_torch_module_may_take_are_left_alone() -> None:
    require_arguments({"ids": X, "mask": X}, torch_model("batch"))  # `forward` may take the dict from a hook
    require_arguments({"ids": X, "mask": X}, torch_model("ids", "mask", "labels", required=2))
    require_arguments({"ids": X, "more": X}, replace(torch_model("ids"), keywords=()))  # it takes any name


def test_named_inputs_reach_keras_in_the_order_of_the_arguments_of_torch() -> None:
    made = both_inputs(torch_model("a", "b"), keras_model("first", "second"), {"b": X * 2, "a": X}, None)
    assert np.array_equal(made.keras[0], X)


def test_a_file_with_one_named_array_keeps_the_name(tmp_path: Path) -> None:
    named, plain = tmp_path / "named.npz", tmp_path / "plain.npz"
    np.savez(named, x=X)
    np.savez(plain, X)
    assert isinstance(read_inputs(named), OneArray)
    assert [*read_inputs(named)] == ["x"]
    assert isinstance(read_inputs(plain), np.ndarray)
    assert np.array_equal(read_labels(named), X)


def test_the_array_of_a_file_is_an_argument_also_of_a_model_without_names() -> None:
    array, note = only_array(OneArray(x=X), (), required=0)
    assert array is X
    assert not note
    assert only_array({"x": X}, (), required=0) == ({"x": X}, "")


LEFT, RIGHT = np.ones((2, 4), np.float32), np.ones((2, 3), np.float32)


def keyed(**sizes: int) -> tuple[InputSpec, ...]:
    """Return the specification of a model that takes a dict of vectors of these sizes."""
    return tuple(InputSpec(name=name, key=name, shape=(None, size)) for name, size in sizes.items())


def test_arrays_without_names_are_given_to_a_dict_by_their_shapes() -> None:
    made, note = fitted((LEFT, RIGHT), keyed(right=3, left=4), "inputs", "net")
    assert made["left"] is LEFT
    assert made["right"] is RIGHT
    assert note == "the arrays were given to left, right, by their shapes"


def test_arrays_without_names_keep_the_order_of_the_model_if_shapes_do_not_decide() -> None:
    for sizes in ({"a": 4, "b": 4}, {"a": 4, "b": 9}):
        made, note = fitted((LEFT, LEFT * 2), keyed(**sizes), "inputs", "net")
        assert made["a"] is LEFT
        assert not note
    lists = tuple(replace(spec, key="") for spec in keyed(right=3, left=4))
    assert fitted((LEFT, RIGHT), lists, "inputs", "net") == ([LEFT, RIGHT], ""), "a list has an order"


def test_a_list_of_one_array_stays_a_list_which_some_models_take() -> None:
    one = tuple(replace(spec, key="") for spec in keyed(left=4))
    assert fitted([LEFT], one, "inputs", "net") == ([LEFT], "")
    assert fitted((LEFT,), one, "inputs", "net")[0] is LEFT


def test_an_optional_input_may_be_missing() -> None:
    left, right = keyed(left=4, right=3)
    assert fitted({"left": LEFT}, (left, replace(right, is_optional=True)), "inputs", "net") == ({"left": LEFT}, "")
    with pytest.raises(InputError, match=r"inputs has no right: the inputs of net are left, right\nFix:  inputs=\{"):
        fitted({"left": LEFT}, (left, right), "inputs", "net")


def test_the_names_of_inputs_are_code_to_paste() -> None:
    with pytest.raises(InputError, match=r'Fix:  inputs=\{"a:0": a_0, "2": x_2\}'):
        fitted((LEFT,), keyed(**{"a:0": 4, "2": 3}), "inputs", "net")


def test_inputs_of_a_model_without_a_specification_are_left_alone() -> None:
    made, _ = fitted(OneArray(x=X), (), "inputs", "net")
    assert type(made) is dict
    assert fitted([X, [X]], keyed(a=4), "inputs", "net")[0] == [X, [X]], "nested inputs, too"
