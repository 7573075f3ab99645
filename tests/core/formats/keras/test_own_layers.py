"""A rule of the user names the variables of a layer in a Keras 3 file, which stores only their numbers."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from keras3conv import formats
from keras3conv.alignment.plan import Alignment
from keras3conv.errors import AlignmentError
from keras3conv.model.views import LayerView, ModelView, TensorRef
from keras3conv.planner.plan import plan
from keras3conv.rules.library import list_rules
from keras3conv.rules.registry import ranked, register, registered
from keras3conv.rules.rule import Config, Example, LayerSpec, Rule, WeightMapping
from keras3conv.transforms import Axes
from tests.support.hdf5_files import archive

TRANSPOSED = Axes("o i -> i o")


@pytest.fixture(autouse=True)
def _rules() -> Iterator[None]:
    list_rules()
    before = dict(registered)
    yield
    registered.clear()
    registered.update(before)
    ranked.cache_clear()


def mappings(*names: str) -> tuple[WeightMapping, ...]:
    """Return a mapping from "gate" to the first name, transposed, and a mapping to each other name from the same."""
    first = WeightMapping(torch=("gate",), keras=(names[0],), transform=TRANSPOSED)
    return (first, *(WeightMapping(torch=(name,), keras=(name,), transform=Axes("n -> n")) for name in names[1:]))


def add_rule(weights: Callable[[Config], tuple[WeightMapping, ...]] | None = None) -> Rule:
    """Register the rule for a layer with a square kernel and two vectors; `weights` computes other mappings."""
    return register(
        Rule(
            torch="lab.Gate",
            keras="lab.KGate",
            fields={"temperature": "temperature"},
            weights=weights or (lambda config: mappings("kernel", "scale", "shift")),
            to_keras=lambda config: (LayerSpec(kind="lab.KGate", config=dict(config)),),
            to_torch=lambda specs: (LayerSpec(kind="lab.Gate", config={"t": specs[0].config["temperature"]}),),
            examples=(Example(config={"temperature": 2.0}, inputs=((3, 4),)),),
        )
    )


SHAPES = ((4, 4), (4,), (5,))


def gate(file: h5py.File, shapes: tuple[tuple[int, ...], ...] = SHAPES) -> None:
    """Write the variables of the layer as Keras 3 does: a group that is named after the class, and numbers."""
    group = file.create_group("layers/k_gate/vars")
    group.attrs["name"] = "head"
    for number, shape in enumerate(shapes):
        group[str(number)] = np.zeros(shape, np.float32)


def keras_file(folder: Path, kind: str, shapes: tuple[tuple[int, ...], ...] = SHAPES) -> ModelView:
    """Return the view of a file with the layer: of a .keras archive, or of a .weights.h5 without an architecture."""
    if kind == "weights":
        path = folder / "x.weights.h5"
        with h5py.File(path, "w") as file:
            gate(file, shapes)
        return formats.read(path)
    layer = {"class_name": "KGate", "module": "lab", "config": {"name": "head", "temperature": 2.0}}
    config = {"class_name": "Sequential", "module": "keras", "config": {"name": "net", "layers": [layer]}}
    return formats.read(archive(folder, lambda file: gate(file, shapes), config=json.dumps(config).encode()))


def torch_file(
    shapes: tuple[tuple[int, ...], ...] = SHAPES, names: tuple[str, ...] = ("gate", "scale", "shift")
) -> Any:
    tensors = (TensorRef(path=f"1.{name}", role=name, shape=size) for name, size in zip(names, shapes, strict=True))
    return ModelView(side="torch", name="net.pt", layers=(LayerView(path="1", tensors=tuple(tensors)),))


def transforms(made: Alignment) -> dict[str, Any]:
    return {mapping.keras[0]: mapping.transform for mapping in made.mappings}


@pytest.mark.parametrize("kind", ["archive", "weights"])
def test_a_rule_of_the_user_transposes_the_kernel_between_two_files(tmp_path: Path, kind: str) -> None:
    add_rule()
    view = keras_file(tmp_path, kind)
    assert [(one.path, one.role) for one in view.tensors()] == [
        ("head/0", "kernel"), ("head/1", "scale"), ("head/2", "shift"),
    ]  # fmt: skip
    made = plan(torch_file(), view).check()
    assert transforms(made)["head/0"] == TRANSPOSED
    assert not made.unconfirmed


@pytest.mark.parametrize("kind", ["archive", "weights"])
def test_without_a_rule_a_square_kernel_is_not_confirmed_and_the_plan_says_why(tmp_path: Path, kind: str) -> None:
    made = plan(torch_file(), keras_file(tmp_path, kind)).check()
    assert [pair.torch for pair in made.unconfirmed] == ["1.gate"]
    assert "square, (4, 4): the axis order is unknown" in str(made)


def test_a_square_parameter_of_a_module_that_was_not_run_is_not_confirmed(tmp_path: Path) -> None:
    (layer,) = torch_file().layers
    live = ModelView(
        side="torch", name="Net", layers=(LayerView(path="1", kinds=("lab.Gate",), tensors=layer.tensors),)
    )
    made = plan(live, keras_file(tmp_path, "archive")).check()
    assert [pair.torch for pair in made.unconfirmed] == ["1.gate"]


def test_two_variables_of_one_shape_are_not_confirmed_because_a_rule_names_them_by_their_order(tmp_path: Path) -> None:
    add_rule()
    shapes = ((4, 4), (4,), (4,))
    made = plan(torch_file(shapes), keras_file(tmp_path, "archive", shapes)).check()
    assert [pair.torch for pair in made.unconfirmed] == ["1"]


def test_a_rule_that_names_another_number_of_variables_is_not_applied_and_the_problem_says_so(tmp_path: Path) -> None:
    add_rule(lambda config: mappings("kernel", "scale"))
    view = keras_file(tmp_path, "archive")
    assert [one.role for one in view.tensors()] == ["0", "1", "2"]
    with pytest.raises(AlignmentError, match=r"head has 3 variables in the file; the examples of the rule give kernel"):
        plan(torch_file(), view).check()


def test_a_rule_that_reads_settings_is_not_applied_to_a_file_of_weights_alone(tmp_path: Path) -> None:
    names = {2.0: ("kernel", "scale", "shift")}
    add_rule(lambda config: mappings(*names[config["temperature"]]))
    with pytest.raises(AlignmentError, match="it reads settings of the layer, which a file of weights does not have"):
        plan(torch_file(), keras_file(tmp_path, "weights")).check()


def test_a_hint_for_a_class_without_a_rule_names_the_way_to_add_one(tmp_path: Path) -> None:
    view = keras_file(tmp_path, "archive")
    with pytest.raises(AlignmentError, match=r"a rule that you register says how their tensors correspond"):
        plan(torch_file(), view, {"1": "head"})


def test_a_rule_that_maps_an_optional_tensor_for_every_example_is_told_to_leave_it_out(tmp_path: Path) -> None:
    add_rule(lambda config: mappings("kernel", "scale", "shift"))
    shapes = ((4, 4), (4,))
    with pytest.raises(AlignmentError, match=r"2 variables in the file; .*weights must leave its mapping out"):
        plan(torch_file(shapes, ("gate", "scale")), keras_file(tmp_path, "archive", shapes)).check()
