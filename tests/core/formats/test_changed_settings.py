"""The settings of Keras 2 files that have another name, value or meaning in Keras 3."""

from pathlib import Path
from typing import Any

import pytest

from keras3conv.formats.keras2.changes import changed_settings, notes_of_changes
from keras3conv.formats.keras2.file import saved_model

FILES = Path(__file__).parents[2] / "keras2_files" / "tensorflow-2.4.4"


def entry(class_name: str, name: str = "one", **config: Any) -> dict[str, Any]:
    return {"class_name": class_name, "config": {"name": name, **config}}


def model(*layers: dict[str, Any]) -> dict[str, Any]:
    return {"class_name": "Sequential", "config": {"name": "model", "layers": list(layers)}}


@pytest.mark.parametrize(
    ("layer", "change"),
    [
        (entry("LeakyReLU", alpha=0.2), "alpha=0.2 is negative_slope=0.2"),
        (entry("Activation", activation="swish"), "activation='swish' is activation='silu'"),
        (entry("GRU", units=3), "reset_after=False, which the file leaves out"),
        (entry("LSTMV2", units=3), "LSTMV2 is LSTM"),
        (
            entry("LSTM", recurrent_activation="hard_sigmoid"),
            "recurrent_activation='hard_sigmoid' is clip(0.2 x + 0.5, 0, 1); in Keras 3 its slope is 1/6",
        ),
        (
            entry("CuDNNLSTM", units=3),
            "CuDNNLSTM is LSTM with activation='tanh', recurrent_activation='sigmoid', use_bias=True",
        ),
    ],
)
def test_a_setting_that_keras_3_changed_is_listed_with_its_layer(layer: dict[str, Any], change: str) -> None:
    assert changed_settings(model(layer)) == (("one", change),)


@pytest.mark.parametrize(
    "layer",
    [
        entry("Dense", units=3, activation="relu", dtype="float32"),
        entry("ReLU", threshold=0.0, negative_slope=0.0),
        entry("GRU", units=3, reset_after=True, recurrent_activation="sigmoid"),
        entry("BatchNormalization", axis=[3], epsilon=1e-3),
        entry("Add"),
    ],
)
def test_a_setting_with_the_same_meaning_is_not_listed(layer: dict[str, Any]) -> None:
    assert changed_settings(model(layer)) == ()


def test_layers_inside_models_wrappers_and_cells_are_listed_by_their_paths() -> None:
    wrapped = entry("Bidirectional", "both", layer=entry("GRU", "gru", reset_after=False, activation="swish"))
    cells = entry("RNN", "rnn", cell=entry("StackedRNNCells", "cell", cells=[entry("GRUCell", "a", reset_after=True)]))
    inner = entry("Sequential", "inner", layers=[entry("LeakyReLU", "leaky", alpha=0.5)])
    assert [path for path, _ in changed_settings(model(wrapped, cells, inner))] == ["both/layer", "inner/leaky"]


def test_merging_layers_are_listed_if_the_model_has_masks() -> None:
    merging = entry("Add", "sum")
    (change,) = changed_settings(model(entry("Masking", "mask"), merging))
    assert change == ("sum", "a step is masked if any input masks it; in Keras 3 only if all inputs mask it")


def test_equal_changes_share_a_note_that_names_the_first_layers() -> None:
    changes = changed_settings(model(*(entry("ELU", name, activation="swish") for name in "abcdefg")))
    (note,) = notes_of_changes(changes, "old.h5")
    named = "old.h5, a, b, c, d, e and 2 more, which keras3conv inspect old.h5 lists"
    assert note == f"{named}: activation='swish' is activation='silu'"


def test_the_changes_of_a_file() -> None:
    saved = saved_model(FILES / "convolutions.h5")
    assert saved is not None
    assert dict(changed_settings(saved.config)) == {
        "activation": "activation='hard_sigmoid' is clip(0.2 x + 0.5, 0, 1); in Keras 3 its slope is 1/6",
        "leaky_re_lu": "alpha=0.2 is negative_slope=0.2",
        "thresholded_re_lu": "theta=0.5 is threshold=0.5",
    }
