"""The listing of a Keras file says if the file has an architecture, and how it is converted."""

from pathlib import Path

import h5py
import numpy as np

from tests.support.cli_runs import run

OLD = Path(__file__).parents[2] / "keras2_files" / "tensorflow-2.4.4" / "convolutions.h5"


def test_the_layer_names_of_an_old_file_are_listed_with_the_command_that_needs_no_code() -> None:
    text = run("inspect", OLD).stdout
    with h5py.File(OLD) as file:
        assert "model_config" in file.attrs
        names = [name.decode() for name in file["model_weights"].attrs["layer_names"]]
    in_one_line = " ".join(text.split())
    assert f"layer_names {names[0]}, {names[1]}" in in_one_line
    assert "The file contains the architecture, too (model_config), so it is converted with no code:" in in_one_line
    assert f"keras3conv convert {OLD} -o folder/" in text


def test_no_architecture_is_named_for_weights_alone(tmp_path: Path) -> None:
    path = tmp_path / "model.h5"
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = np.array([b"dense"])
        layer = file.create_group("dense")
        layer.attrs["weight_names"] = np.array([b"dense/bias:0"])
        layer["dense/bias:0"] = np.ones(2, np.float32)
    text = run("inspect", path).stdout
    assert "model_config" not in text
    assert "  layer_names  dense\n" in text
