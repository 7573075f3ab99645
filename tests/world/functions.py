"""A Keras 2 model with the functions of TensorFlow that no model of `operations.py` calls; `make.py` saves it."""

from typing import Any

from keras_of_its_time import tf
from networks import Input, Model, layers, network


@network((2, 13))
def other_functions() -> Any:
    given = Input((4, 5))
    x = layers.Dense(4)(given)
    y = tf.abs(x) + 0.5
    found = [function(x) for function in (tf.nn.sigmoid, tf.nn.tanh, tf.nn.silu, tf.nn.softsign, tf.nn.selu)]
    found += [function(x) for function in (tf.nn.swish, tf.nn.log_softmax, tf.math.ceil, tf.math.cos, tf.math.sin)]
    found += [function(x) for function in (tf.math.expm1, tf.math.round, tf.identity, tf.stop_gradient)]
    found += [tf.math.log1p(y), tf.math.reciprocal(y), tf.convert_to_tensor(x), tf.zeros_like(x), tf.ones_like(x)]
    found += [tf.math.add(x, y), tf.math.subtract(x, y), tf.math.multiply(x, y), tf.math.divide(x, y)]
    found += [tf.math.divide_no_nan(x, tf.nn.relu(x)), tf.math.atan2(x, y), tf.math.floordiv(x, y), tf.math.mod(x, y)]
    found += [tf.math.pow(y, x), tf.math.maximum(x, y), tf.math.minimum(x, y), tf.nn.l2_normalize(x, axis=-1)]
    compared = [tf.math.greater(x, 0.1), tf.math.greater_equal(x, y), tf.math.less(x, 0.1), tf.math.less_equal(x, y)]
    compared += [tf.math.equal(x, y), tf.math.not_equal(x, y), tf.math.logical_not(x > 0.0)]
    compared += [tf.math.logical_and(x > 0.0, y > 1.0), tf.math.logical_or(x > 0.0, y > 1.0)]
    found += [tf.cast(one, "float32") for one in compared]
    reduced = [tf.norm(x, axis=1), tf.math.reduce_euclidean_norm(x, axis=1)]
    reduced += [tf.cast(tf.math.reduce_all(x > -1.0, axis=1), "float32"), tf.compat.v1.squeeze(x[:, :1], [1])]
    return Model(given, [tf.concat(found, axis=-1), tf.concat(reduced, axis=-1)])


@network((2, 13))
def other_functions_of_images() -> Any:
    given = Input((4, 6, 3))
    x = layers.Conv2D(4, 1)(given)
    found = [tf.image.flip_up_down(x), tf.nn.space_to_depth(x, 2), tf.compat.v1.nn.depth_to_space(x, 2)]
    found += [tf.compat.v1.nn.avg_pool(x, 2, 2, "SAME"), tf.compat.v1.transpose(x, [0, 2, 1, 3])]
    found += [tf.compat.v1.expand_dims(x, 1), tf.compat.v1.pad(x, [[0, 0], [1, 0], [0, 1], [0, 0]])]
    found += [tf.compat.v1.gather(x, [1, 0], axis=1), tf.broadcast_to(x[:1, :1], tf.constant([2, 4, 6, 4]))]
    return Model(given, found)
