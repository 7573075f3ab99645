"""Small Keras 2 models with functions of TensorFlow between their layers; `make.py` saves them."""

from typing import Any

import numpy as np
from keras_of_its_time import VERSION, keras, tf
from networks import Input, Model, layers, network

SINCE = (2, 4)
"""The first TensorFlow version that writes function names; earlier versions write graph nodes."""


@network(SINCE)
def preprocess_caffe() -> Any:
    given = Input((6, 6, 3))
    return Model(given, layers.Conv2D(3, 3)(keras.applications.resnet50.preprocess_input(given)))


@network(SINCE)
def preprocess_torch() -> Any:
    given = Input((6, 6, 3))
    return Model(given, layers.Conv2D(3, 3)(keras.applications.densenet.preprocess_input(given)))


@network(SINCE, forms=".h5 .keras")
def constants() -> Any:
    given = Input((5, 3))
    x = (given - np.array([0.1, 0.2, 0.3], "float32")) / tf.constant([1.0, 2.0, 3.0])
    return Model(given, layers.Dense(2)(np.float32(2.0) * x))


@network(SINCE, forms=".h5 .keras")
def attention_by_hand() -> Any:
    given = Input((5, 6))
    query, key, value = (layers.Dense(4)(given) for _ in range(3))
    score = tf.nn.softmax(tf.matmul(query, key, transpose_b=True) / 2.0)
    first = tf.matmul(score, value)
    return Model(given, [first, tf.matmul(query, value, transpose_a=True)])


@network(SINCE)
def normalized() -> Any:
    given = Input((5, 6))
    x = layers.Dense(4)(given)
    y = tf.math.l2_normalize(x, axis=-1)
    return Model(given, [y, tf.math.l2_normalize(x, axis=[1, 2], epsilon=0.5), tf.nn.bias_add(x, [1.0, 2.0, 3.0, 4.0])])


@network(SINCE)
def split() -> Any:
    given = Input((5, 6))
    x = layers.Dense(6)(given)
    first, second = tf.split(x, 2, axis=-1)
    parts = tf.split(x, [1, 2, 3], axis=2)
    a, *_, b = tf.unstack(x, axis=1)
    return Model(given, [first * tf.nn.sigmoid(second), tf.concat([parts[2], parts[0]], -1), a - b])


@network(SINCE)
def argmax() -> Any:
    given = Input((5, 6))
    x = layers.Dense(4)(given)
    first, last = tf.argmax(x), tf.argmin(x, axis=-1, output_type=tf.int32)
    return Model(given, [tf.cast(first, tf.float32), tf.cast(last, tf.float32), tf.cast(x > 0.1, "float32")])


@network(SINCE)
def choices() -> Any:
    given, words = Input((5,)), Input((3,), dtype="int32")
    x = tf.where(given > 0.0, given, 0.1 * given)
    y = tf.one_hot(words, 10)
    z = tf.one_hot(words, 10, on_value=2.0, off_value=-1.0, axis=1)
    return Model([given, words], [layers.Dense(2)(x), layers.Dense(2)(y), z])


@network(SINCE)
def reductions() -> Any:
    given = Input((4, 5))
    x = layers.Dense(5)(given)
    names = ["mean", "sum", "max", "min", "prod", "logsumexp"]
    found = [getattr(tf, f"reduce_{name}", None) or getattr(tf.math, f"reduce_{name}") for name in names]
    outputs = [function(x, axis=1) for function in found]
    outputs += [tf.math.reduce_std(x, axis=-1), tf.math.reduce_variance(x, axis=[1, 2], keepdims=True)[:, 0]]
    outputs += [tf.cast(tf.reduce_any(x > 0.5, axis=1), tf.float32), tf.reduce_mean(x, [1])]
    return Model(given, outputs)


@network(SINCE)
def slices() -> Any:
    given = Input((4, 5, 6))
    x = layers.Dense(6)(given)
    return Model(
        given,
        [x[..., 1:], x[:, tf.newaxis, ::2, -1], x[:, 1, ..., :2], x[:, ::-1, :3], x[..., tf.newaxis, 0], x[:, -2:]],
    )


@network(SINCE)
def elementwise() -> Any:
    given = Input((5,))
    x = layers.Dense(4)(given)
    y = tf.abs(x) + 0.5
    found = [tf.sqrt(y), tf.math.rsqrt(y), tf.exp(-y), tf.math.log(y), tf.square(x), tf.pow(y, 2.0), tf.sign(x)]
    found += [tf.math.softplus(x), tf.tanh(x), tf.sigmoid(x), tf.math.erf(x), tf.maximum(x, 0.2), tf.minimum(x, y)]
    found += [tf.clip_by_value(x, -0.5, 0.5), tf.nn.leaky_relu(x), tf.nn.elu(x), tf.nn.gelu(x), tf.floor(x), x // y]
    found += [x % 2.0, 1.0 / y, -x, tf.math.squared_difference(x, y), tf.add_n([x, y, x]), tf.nn.relu6(4 * x)]
    return Model(given, tf.concat(found, axis=-1))


@network(SINCE)
def reshaped() -> Any:
    given = Input((4, 6))
    x = tf.reshape(layers.Dense(6)(given), [-1, 4, 2, 3])
    y = tf.transpose(x, [0, 2, 1, 3])
    z = tf.tile(tf.squeeze(tf.expand_dims(y, 1), [1]), [1, 1, 2, 1])
    w = tf.pad(x, [[0, 0], [1, 2], [0, 1], [0, 0]])
    return Model(given, [y, z, w, tf.stack([x, x + 1.0], axis=2), tf.cumsum(x, axis=1), tf.gather(x, [2, 0], axis=1)])


@network(SINCE)
def images() -> Any:
    given = Input((4, 5, 3))
    x = layers.Conv2D(4, 1)(given)
    found = [tf.image.resize(x, [8, 10]), tf.image.resize(x, [8, 10], method="nearest")]
    found += [tf.nn.depth_to_space(x, 2), tf.image.flip_left_right(x), tf.nn.max_pool2d(x, 2, 2, "SAME")]
    return Model(given, [*found, tf.nn.avg_pool2d(x, 2, 1, "VALID")])


@network(SINCE)
def images_refused() -> Any:
    given = Input((4, 5, 3))
    x = tf.image.adjust_saturation(layers.Conv2D(3, 1)(given), 0.5)
    return Model(given, tf.image.resize(x, [8, 10], method="bicubic", antialias=True))


@network((2, 4))
def einsum() -> Any:
    given = Input((4, 6))
    x = layers.Dense(6)(given)
    y = tf.einsum("bij,bkj->bik", x, given)
    return Model(given, [y, tf.tensordot(x, np.ones((6, 2), "float32"), axes=1)] if VERSION >= (2, 9) else y)
