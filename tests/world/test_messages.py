"""The messages of the Keras 2 reader: notes, refusals and fixes, which are executed."""

import json
import re
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
import pytest
import torch
from torch import nn

import keras3conv as k3c
from keras3conv.errors import InputError, ModelError, UnsupportedLayerError
from keras3conv.formats.keras2.file import plain_values, saved_model
from keras3conv.formats.keras2.layers import changed_meaning
from keras3conv.formats.keras2.names import allowed_names
from keras3conv.formats.keras2.order import proven_order
from keras3conv.frameworks.keras import files as keras_files
from keras3conv.frameworks.keras.adapter import KerasModel, origin_of
from keras3conv.frameworks.keras.keras2.reading import read_model
from tests.world.converted import assert_golden, converted
from tests.world.files import FOLDER, OldFile

NEWEST = FOLDER / "tensorflow-2.15.1"


def read(name: str) -> Any:
    saved = saved_model(NEWEST / name)
    assert saved is not None
    return read_model(saved)


def fixes_in(error: pytest.ExceptionInfo[Exception]) -> list[str]:
    """Return the fixes at the end of a message."""
    text = str(error.value).partition("Fix:")[2]
    return [re.sub(r"^or\s+", "", line.strip()) for line in text.splitlines() if line.strip()]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("losses_inside.h5", "left out, because they act only in training: add_loss, add_metric"),
        ("augmentation_first.h5", "left out, because they act only in training: random_flip, random_rotation"),
        ("augmentation_in_a_sequential.h5", "left out, because they act only in training: head"),
        (
            "mixed_precision.h5",
            "layers that computed in half precision are read as float32 layers with the same weights",
        ),
        ("names_with_slashes.h5", "stem/conv is stem_conv_"),
    ],
)
def test_the_notes_list_the_changes_of_the_keras_2_reader(name: str, said: str) -> None:
    notes = KerasModel(read(name)).origin_notes()
    assert f"{name} was saved by Keras 2.15.0, and is read with the meaning that it has there" in notes
    assert any(said in note for note in notes)


def test_a_model_that_was_made_by_code_has_no_origin() -> None:
    assert origin_of(keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])) is None


def test_plans_and_reports_have_the_original_names() -> None:
    made = converted(OldFile(NEWEST / "names_with_slashes.h5"))
    paths = {pair.keras for pair in made.conversion.alignment.pairs}
    assert paths == {"stem/conv", "stem/bn", "block.1", "block/1"}
    origin = origin_of(read("names_with_slashes.h5"))
    assert origin is not None
    assert len(origin.renamed) == len(set(origin.renamed.values())) == 5


def test_renaming_is_reversible_and_leaves_allowed_names() -> None:
    names = ["a/b", "a.b", "a_b", "c"]
    found = allowed_names(names)
    assert len(set(found.values())) == len(names)
    assert (found["a_b"], found["c"]) == ("a_b", "c")
    assert not any(re.search("[/.]", name) for name in found.values())


@pytest.mark.parametrize(
    ("wrapped", "plain"),
    [
        ({"type": "float32", "value": 0.3}, 0.3),
        ({"class_name": "__numpy__", "config": {"value": [1, 2], "dtype": "int32"}}, [1, 2]),
        ({"class_name": "__tensor__", "config": {"value": 2.0, "dtype": "float32"}}, 2.0),
        ({"class_name": "__tuple__", "items": [1, [2]]}, [1, [2]]),
        ({"class_name": "TensorShape", "items": [None, 3]}, [None, 3]),
        ({"module": "builtins", "class_name": "function", "config": "relu6", "registered_name": "function"}, "relu6"),
        (
            {"class_name": "Dense", "config": {"alpha": {"type": "x", "value": 1}}},
            {"class_name": "Dense", "config": {"alpha": 1}},
        ),
    ],
)
def test_serialised_numpy_and_tensorflow_values_become_plain_values(wrapped: Any, plain: Any) -> None:
    assert plain_values([wrapped]) == [plain]


def test_numpy_scalars_in_a_file_are_normalised(tmp_path: Path) -> None:
    path = tmp_path / "scalars.h5"
    path.write_bytes((NEWEST / "activation_layers.h5").read_bytes())
    with h5py.File(path, "r+") as file:
        config = json.loads(file.attrs["model_config"])
        layer = next(one for one in config["config"]["layers"] if one["class_name"] == "LeakyReLU")
        layer["config"]["alpha"] = {"type": "float32", "value": 0.5}
        file.attrs["model_config"] = json.dumps(config)
    saved = saved_model(path)
    assert saved is not None
    assert read_model(saved).get_layer("leaky_re_lu").negative_slope == 0.5


@pytest.mark.parametrize(
    ("version", "is_of_tensorflow_2", "is_refused"),
    [("2.3.1", False, True), ("2.2.4", False, True), ("2.2.4-tf", False, True), ("2.2.4-tf", True, False),
     ("2.1.6-tf", True, True), ("2.3.0-tf", False, False), ("2.15.0", False, False)],
)  # fmt: skip
def test_the_bilinear_interpolation_of_old_versions_is_refused(
    version: str, is_of_tensorflow_2: bool, is_refused: bool
) -> None:
    given = {"interpolation": "bilinear"}
    said = changed_meaning("UpSampling2D", given, version, is_of_tensorflow_2=is_of_tensorflow_2)
    assert bool(said) == is_refused


def test_a_file_with_code_in_it_is_refused_by_validate_and_the_fix_converts_your_own_model() -> None:
    module = nn.Sequential(nn.Conv2d(2, 2, 3))
    with pytest.raises(ModelError, match="no code is ever run from a file") as caught:
        k3c.validate(module, NEWEST / "refused.h5")
    (fix, *_) = fixes_in(caught)
    names: dict[str, Any] = {
        "k3c": k3c,
        "make_model": lambda: keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)]),
    }
    assert fix.startswith("k3c.convert(make_model(), weights=")
    with pytest.raises(ModelError, match="are not the weights of"):  # of this small model: the line itself runs
        exec(fix, names)  # noqa: S102 - our own message


def test_a_file_that_cannot_be_computed_is_aligned_by_its_names_and_says_so() -> None:
    plan = k3c.align(nn.Sequential(nn.Conv2d(2, 2, 3)), NEWEST / "refused.h5", probe=False)
    assert any("only the names and shapes in" in note and "twice" in note for note in plan.notes)


def test_the_fix_for_a_class_that_nobody_registered_registers_it(tmp_path: Path) -> None:
    path = tmp_path / "own.h5"
    path.write_bytes((NEWEST / "dense_first.h5").read_bytes())
    with h5py.File(path, "r+") as file:
        file.attrs["model_config"] = file.attrs["model_config"].replace('"class_name": "Dense"', '"class_name": "Own"')

    class Own(keras.layers.Dense):
        @classmethod
        def from_config(cls, config: dict[str, Any]) -> Any:
            return cls(config["units"], activation=config["activation"], name=config["name"])

    with pytest.raises(UnsupportedLayerError, match="Own is not a class of Keras 3") as caught:
        k3c.convert(path)
    fix = next(line for line in fixes_in(caught) if "get_custom_objects" in line)
    try:
        exec(fix, {"keras": keras, "Own": Own})  # noqa: S102 - our own message
        made = k3c.convert(path, validate=False)
    finally:
        keras.saving.get_custom_objects().pop("Own", None)
    assert_golden(
        converted(OldFile(NEWEST / "dense_first.h5")).returned(made.model), OldFile(NEWEST / "dense_first.h5")
    )


def tower(names: tuple[str, ...] = ("first", "second", "third")) -> Any:
    """Return the network `frozen_inside`, built by code, with other layer names."""
    layers = [
        keras.layers.Dense(5, activation=act, name=name)
        for act, name in zip(("tanh", "tanh", None), names, strict=True)
    ]
    inner = keras.Sequential([keras.Input((5,)), *layers, keras.layers.BatchNormalization(name="last")], name="tower")
    given = keras.Input((5,))
    return keras.Model(given, keras.layers.Dense(2, name="head")(inner(given)))


def test_the_weights_of_frozen_layers_are_loaded_by_their_names() -> None:
    file = OldFile(NEWEST / "frozen_inside_weights.json")
    model = tower()
    keras_files.load_weights(model, NEWEST / "frozen_inside_weights.h5")
    assert_golden([np.asarray(model.predict(file.arrays("input")[0], verbose=0))], file)


def test_a_layer_order_that_names_do_not_prove_is_refused_with_a_fix() -> None:
    file = OldFile(NEWEST / "nested_weights.json")
    weights = NEWEST / "frozen_inside_weights.h5"
    model = tower(("one", "two", "three"))
    with pytest.raises(ModelError, match="do not show the order: first, third, second") as caught:
        keras_files.load_weights(model, weights)
    (fix,) = fixes_in(caught)
    fix = fix.replace("['first', 'third', 'second'", "['first', 'second', 'third'")
    exec(fix, {"model": model})  # noqa: S102 - our own message
    keras_files.load_weights(model, weights)
    file = OldFile(NEWEST / "frozen_inside_weights.json")
    assert_golden([np.asarray(model.predict(file.arrays("input")[0], verbose=0))], file)


@pytest.mark.parametrize(
    ("names", "order", "unproven"),
    [
        (["d1", "d3", "d2"], ["d1", "d2", "d3"], set()),
        (["dense_1", "dense"], ["dense", "dense_1"], set()),
        (["block1_conv1", "block2_conv1", "block1_conv2"], ["block1_conv1", "block1_conv2", "block2_conv1"], set()),
        (["first", "third"], ["first", "third"], {"first", "third"}),
    ],
)
def test_numbers_in_names_prove_the_layer_order(names: list[str], order: list[str], unproven: set[str]) -> None:
    assert proven_order([(name, (5, 5)) for name in names]) == (order, frozenset(unproven))


def test_frozen_layers_of_a_file_of_weights_are_paired_by_names_or_not_at_all() -> None:
    class Own(nn.Module):
        def __init__(self, names: tuple[str, ...]) -> None:
            super().__init__()
            for name in names:
                self.add_module(name, nn.Linear(5, 5))
            self.last, self.head = nn.BatchNorm1d(5), nn.Linear(5, 2)

    plan = k3c.align(Own(("first", "second", "third")), NEWEST / "frozen_inside_weights.h5")
    assert {(pair.torch, pair.keras) for pair in plan.pairs} >= {
        ("first", "tower/first"), ("second", "tower/second"), ("third", "tower/third"),
    }  # fmt: skip
    other = k3c.align(Own(("a", "b", "c")), NEWEST / "frozen_inside_weights.h5")
    assert {pair.torch for pair in other.pairs} == {"last", "head"}
    assert other.problems()


def test_golden_outputs_need_the_inputs_that_they_are_for() -> None:
    made = converted(OldFile(NEWEST / "dense_first.h5"))
    path = NEWEST / "dense_first.h5"
    outputs = made.file.arrays("output")
    with pytest.raises(InputError, match="expected is given without inputs") as caught:
        k3c.validate(made.module, path, expected=outputs)
    (fix,) = fixes_in(caught)
    inputs = torch.from_numpy(made.file.arrays("input")[0])
    names: dict[str, Any] = {"validate": k3c.validate, "module": made.module, "path": path, "inputs": inputs}
    names["outputs"] = outputs
    exec(f"report = validate(module, path, expected=outputs, {fix})", names)  # noqa: S102 - our own message
    names["report"].raise_if_failed()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda one: (one + 1e-3,), "differs from the golden output by"),
        (lambda one: (one[:1],), "but the golden output has"),
    ],
)
def test_outputs_that_differ_from_the_golden_outputs_fail_on_both_sides(change: Any, said: str) -> None:
    made = converted(OldFile(NEWEST / "dense_first.h5"))
    inputs = torch.from_numpy(made.file.arrays("input")[0])
    expected = change(made.file.arrays("output")[0])
    report = k3c.validate(made.module, made.file.path, inputs=inputs, expected=expected, proofs=["expected"])
    section = report.sections[-1]
    assert (section.name, section.status) == ("expected", "failed")
    assert len(section.problems) == 2
    assert all(said in problem.fact for problem in section.problems)


def test_a_wrong_number_of_golden_outputs_is_an_error_of_the_call() -> None:
    made = converted(OldFile(NEWEST / "dense_first.h5"))
    inputs, golden = made.file.arrays("input")[0], made.file.arrays("output")[0]
    with pytest.raises(InputError, match=r"2 golden outputs given, but the models return 1, in Keras \S* ?\("):
        k3c.validate(made.module, made.file.path, inputs=torch.from_numpy(inputs), expected=[golden, golden])


def test_golden_outputs_of_images_may_come_with_the_inputs_of_keras_alone() -> None:
    made = converted(OldFile(NEWEST / "convolutions.h5"))
    images, golden = made.file.arrays("input")[0], made.file.arrays("output")
    options: dict[str, Any] = {"keras_inputs": images, "proofs": ["expected"]}
    report = k3c.validate(made.module, made.file.path, expected=golden, **options)
    report.raise_if_failed()
    assert "inputs given for Keras, and used for torch as they are" in report.notes
    assert not k3c.validate(made.module, made.file.path, expected=[one + 1 for one in golden], **options).ok
    with pytest.raises(InputError, match=r"keras_inputs has 2 arrays, but .* takes 1: "):
        k3c.validate(made.module, made.file.path, keras_inputs=[images, images], proofs=["expected"], expected=golden)


def test_expected_outputs_must_be_numbers() -> None:
    with pytest.raises(InputError, match="must be an array of numbers"):
        k3c.validate(nn.Linear(2, 2), NEWEST / "dense_first.h5", inputs=np.zeros((1, 2), "float32"), expected=["text"])
    with pytest.raises(InputError, match="expected contains no output"):
        k3c.validate(nn.Linear(2, 2), NEWEST / "dense_first.h5", inputs=np.zeros((1, 2), "float32"), expected={})


def test_the_fix_for_a_file_without_arrays_writes_golden_outputs(tmp_path: Path) -> None:
    made = converted(OldFile(NEWEST / "dense_first.h5"))
    path = tmp_path / "outputs.npz"
    path.write_text("no arrays")
    inputs = torch.from_numpy(made.file.arrays("input")[0])
    given: dict[str, Any] = {"inputs": inputs, "expected": path, "proofs": ["expected"]}
    with pytest.raises(InputError, match="contains no arrays") as caught:
        k3c.validate(made.module, made.file.path, **given)
    (fix,) = fixes_in(caught)
    names = {"numpy": np, "path": path, "outputs": made.file.arrays("output")[0]}
    exec(fix, names)  # noqa: S102 - our own message
    k3c.validate(made.module, made.file.path, **given).raise_if_failed()


def test_the_proof_expected_requires_golden_outputs() -> None:
    with pytest.raises(InputError, match=r'expected="outputs\.npz"'):
        k3c.validate(nn.Linear(2, 2), NEWEST / "dense_first.h5", proofs=["expected"])
