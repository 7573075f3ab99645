"""Every file of Keras 2 is converted without TensorFlow, and the module returns what Keras 2 returned."""

import re
from pathlib import Path

import pytest

import keras3conv as k3c
from keras3conv.errors import ModelError, RuleError, UnsupportedLayerError
from keras3conv.formats.keras2.functions import FUNCTIONS
from keras3conv.formats.keras2.operations import applied
from tests.world.converted import assert_golden, converted
from tests.world.files import READ, REFUSED, OldFile, old_files


def test_files_exist_for_all_versions_and_formats() -> None:
    files = old_files()
    assert len(files) >= 60
    assert len({file.path.parent for file in files}) == 7
    assert {file.path.suffix for file in files} == {".h5", ".keras", ".json"}


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths:UserWarning")
@pytest.mark.parametrize("file", READ, ids=lambda file: file.id)
def test_a_file_is_converted_and_returns_the_golden_outputs(file: OldFile) -> None:
    made = converted(file)
    assert_golden(made.returned(made.module), file)


def test_a_layer_that_keras_computes_otherwise_on_torch_is_still_one_module() -> None:
    (file,) = (file for file in READ if file.id == "tensorflow-2.15.1-normalizations.h5")
    source = converted(file).conversion.source
    assert source.count("= nn.LayerNorm(") == 2
    assert "F.layer_norm" not in source


@pytest.mark.parametrize("file", [file for file in old_files() if file.name in REFUSED], ids=lambda file: file.id)
def test_a_file_with_unsupported_layers_is_refused_with_their_names(file: OldFile) -> None:
    with pytest.raises((UnsupportedLayerError, ModelError)) as caught:
        k3c.convert(file.path)
    for named in REFUSED[file.name]:
        assert named in str(caught.value)


@pytest.mark.parametrize("folder", ["tensorflow-2.4.4", "tensorflow-2.15.1"])
def test_a_keras_suffix_may_be_a_zip_archive_or_hdf5(folder: str) -> None:
    files = [file for file in READ if file.path.suffix == ".keras" and file.path.parent.name == folder]
    signature = b"PK" if folder == "tensorflow-2.15.1" else b"\x89H"
    assert files
    assert all(Path(file.path).read_bytes()[:2] == signature for file in files)


LISTED = (Path(__file__).resolve().parent / "tensorflow_functions.txt").read_text().split()
"""The names of the functions that TensorFlow 2.15 turns into layers, by `list_functions.py`."""


def test_every_function_of_tensorflow_is_translated_or_refused_by_its_name() -> None:
    assert len(LISTED) > 300
    refused = [name for name in LISTED if name not in FUNCTIONS]
    for name in refused:
        with pytest.raises(RuleError, match=f"tf.{re.escape(name)} "):
            applied("TFOpLambda", {"function": name}, None, {})
    assert {"einsum", "nn.dropout", "random.normal", "strings.lower"} <= set(refused)


WRITTEN_OTHERWISE = {
    "compat.v1.expand_dims", "gather", "math.divide", "math.floordiv", "math.mod", "nn.l2_normalize", "nn.sigmoid",
    "nn.swish", "nn.tanh", "norm", "pad", "squeeze", "transpose", "__operators__.eq", "__operators__.ne", "gather_nd",
    "math.scalar_mul", "nn.conv1d", "nn.conv2d", "nn.crelu", "nn.depthwise_conv2d", "nn.embedding_lookup", "shape",
}  # fmt: skip
"""Names for which the versions of TensorFlow that wrote the files write another one (compat.v1.gather for gather), or
which they write without the second tensor (x == y)."""


def test_every_translated_function_is_called_in_a_golden_file() -> None:
    called = set()
    for file in READ:
        called |= set(re.findall(r'"function": "([\w.]+)"', file.path.read_bytes().decode("latin-1")))
    assert set(FUNCTIONS) - called == WRITTEN_OTHERWISE
