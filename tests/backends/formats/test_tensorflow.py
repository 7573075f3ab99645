"""What we read from a checkpoint that TensorFlow wrote is what TensorFlow reads from it."""

import random
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from keras3conv import formats
from keras3conv.errors import FileError
from tests.support import fuzzing
from tests.support import tensorflow_files as files

pytestmark = pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="TensorFlow writes the files")
DTYPES = ("float32", "float64", "float16", "bfloat16", "int8", "uint8", "int32", "int64", "bool", "complex64")


def compare(path: Path) -> Any:
    """Assert that all our tensors have the values that TensorFlow reads; return our view."""
    import tensorflow as tf

    view = formats.read(path)
    read = {tensor.location: view.read(tensor.path) for tensor in view.tensors()}
    reader = tf.train.load_checkpoint(str(path))
    for name, ours in read.items():
        theirs = reader.get_tensor(name)
        assert (ours.dtype, ours.shape, ours.tobytes()) == (theirs.dtype, theirs.shape, theirs.tobytes())
    return view


def test_a_checkpoint_of_objects(tmp_path: Path) -> None:
    import tensorflow as tf

    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3), keras.layers.BatchNormalization()])
    model.compile(keras.optimizers.Adam(), "mse")
    model.fit(np.ones((2, 4)), np.ones((2, 3)), verbose=0)
    extra = {dtype: tf.Variable(tf.cast(tf.random.uniform((2, 3)) * 5, dtype)) for dtype in DTYPES}
    tf.train.Checkpoint(model=model, extra=extra).save(str(tmp_path / "ckpt"))
    view = compare(tmp_path / "ckpt-1")
    shapes = sorted(tensor.shape for tensor in view.tensors())
    assert shapes == sorted([*(tuple(variable.shape) for variable in model.variables), *[(2, 3)] * len(DTYPES)])


def test_a_checkpoint_of_a_saver_of_tensorflow_1(tmp_path: Path) -> None:
    import tensorflow as tf

    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        kernel = tf.compat.v1.get_variable("dense/kernel", (4, 3))
        tf.compat.v1.train.get_or_create_global_step()
        tf.compat.v1.train.AdamOptimizer().minimize(tf.reduce_sum(kernel**2))
        session.run(tf.compat.v1.global_variables_initializer())
        tf.compat.v1.train.Saver().save(session, str(tmp_path / "ckpt"))
        value = session.run(kernel)
    view = compare(tmp_path / "ckpt")
    assert [tensor.path for tensor in view.tensors()] == ["dense/kernel"]
    assert np.array_equal(view.read("dense/kernel"), value)


def test_the_folder_of_a_saved_model(tmp_path: Path) -> None:
    import tensorflow as tf

    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, name="only")])
    model.export(tmp_path / "net", verbose=False)
    view = formats.read(tmp_path / "net")
    assert [tensor.role for tensor in view.tensors()] == ["kernel", "bias"]
    assert all(layer.path.endswith("only") for layer in view.layers if layer.tensors)
    reader = tf.train.load_checkpoint(str(tmp_path / "net/variables/variables"))
    for tensor, variable in zip(view.tensors(), model.weights, strict=True):
        assert np.array_equal(view.read(tensor.path), np.array(variable))
        assert np.array_equal(view.read(tensor.path), reader.get_tensor(tensor.location))


def test_a_partitioned_variable_is_refused(tmp_path: Path) -> None:
    import tensorflow as tf

    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        cut = tf.compat.v1.fixed_size_partitioner(2)
        with tf.compat.v1.variable_scope("dense", partitioner=cut, use_resource=False):
            tf.compat.v1.get_variable("kernel", (4, 3))
        session.run(tf.compat.v1.global_variables_initializer())
        tf.compat.v1.train.Saver().save(session, str(tmp_path / "ckpt"))
    with pytest.raises(FileError, match="partitioned variable"):
        formats.read(tmp_path / "ckpt")


def test_a_changed_index_that_we_accept_is_accepted_by_tensorflow(tmp_path: Path) -> None:
    seed, accepted = fuzzing.seed("tensorflow"), 0
    for number in range(300):
        content = files.table(fuzzing.changed(seed, random.Random(number)))
        try:
            compare(files.write(tmp_path, content).with_suffix(""))
        except FileError:
            continue
        accepted += 1
    assert accepted
