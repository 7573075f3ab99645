"""Small Keras 2 models that compute with the sizes of their tensors (tf.shape); `make.py` saves them."""

from typing import Any

import numpy as np
from keras_of_its_time import keras, tf
from networks import Input, Model, layers, network
from operations import SINCE


@network(SINCE, forms=".h5 .keras")
def heads_by_sizes() -> Any:
    given = Input((None, 8))
    batch, steps = tf.shape(given)[0], tf.shape(given)[1]

    def heads(x: Any) -> Any:
        return tf.transpose(tf.reshape(x, (batch, steps, 2, 4)), [0, 2, 1, 3])

    query, key, value = (heads(layers.Dense(8)(given)) for _ in range(3))
    score = tf.matmul(query, key, transpose_b=True) / tf.math.sqrt(tf.cast(tf.shape(key)[-1], tf.float32))
    x = tf.transpose(tf.matmul(tf.nn.softmax(score, -1), value), [0, 2, 1, 3])
    return Model(given, layers.Dense(3)(tf.reshape(x, (batch, -1, 8))))


@network(SINCE)
def reshaped_by_sizes() -> Any:
    given = Input((4, 6))
    x = layers.Dense(6)(given)
    sizes = tf.shape(x)
    merged = tf.reshape(x, [sizes[0], sizes[1] * 2, 3])
    flat = tf.reshape(x, tf.stack([sizes[0], 24]))
    first, *_ = tf.unstack(tf.shape(x))
    joined = tf.reshape(x, tf.concat([tf.shape(x)[:1], [2, 12]], 0))
    return Model(given, [merged, flat, tf.reshape(x, (first // 1, 12, 2)), joined, x[:, : sizes[1] - 2]])


@network(SINCE)
def shuffled_by_sizes() -> Any:
    given = Input((None, None, 8))
    x = layers.Conv2D(8, 1)(given)
    sizes = tf.shape(x)
    x = tf.transpose(tf.reshape(x, [sizes[0], sizes[1], sizes[2], 2, 4]), [0, 1, 2, 4, 3])
    return Model(given, layers.DepthwiseConv2D(3, padding="same")(tf.reshape(x, [sizes[0], sizes[1], sizes[2], 8])))


@network(SINCE)
def created_by_sizes() -> Any:
    given = Input((5, 4))
    batch = tf.shape(given)[0]
    x = layers.LSTM(3, return_sequences=True)(given, initial_state=[tf.zeros((batch, 3)), tf.ones((batch, 3))])
    x = tf.concat([tf.fill([batch, 1, 3], 0.5), tf.ones((batch, 1, 3)), x], 1)
    token = tf.broadcast_to(tf.constant([[[0.1, 0.2, 0.3]]]), [batch, 1, 3])
    table = tf.tile(tf.constant(np.arange(12, dtype="float32").reshape(1, 4, 3)), [batch, 1, 1])
    return Model(given, layers.Dense(3)(tf.concat([token, x, table], 1)))


@network(SINCE)
def positions_by_sizes() -> Any:
    words = Input((7,), dtype="int32")
    x = layers.Embedding(11, 6)(words) + layers.Embedding(7, 6)(tf.range(0, tf.shape(words)[-1], 1))
    steps = tf.shape(x)[1]
    scores = tf.matmul(x, x, transpose_b=True) - 1e3 * (1.0 - tf.linalg.band_part(tf.ones((steps, steps)), -1, 0))
    places = tf.cast(tf.range(steps), tf.float32) / tf.cast(steps - 1, tf.float32)
    x = tf.matmul(tf.nn.softmax(scores), x) * tf.reshape(places, [1, -1, 1])
    return Model(words, layers.Dense(3)(x))


@network(SINCE)
def repeated_by_sizes() -> Any:
    first, second, image = Input((4,)), Input((6, 3)), Input((8, 10, 2))
    x = tf.concat([tf.tile(tf.expand_dims(first, 1), [1, tf.shape(second)[1], 1]), second], -1)
    y = tf.image.resize(layers.Conv2D(3, 1)(image[:, :4, :5]), tf.shape(image)[1:3])
    return Model([first, second, image], [layers.Dense(2)(x), tf.concat([image, y], -1)])


@network(SINCE)
def lengths() -> Any:
    given, steps = Input((6, 4)), Input((1,), dtype="int32")
    x = layers.Dense(3)(given)
    mask = tf.sequence_mask(steps[:, 0], 6, dtype=tf.float32)
    last = tf.gather(x, steps, axis=1, batch_dims=1)
    return Model([given, steps], [tf.reduce_sum(x * mask[:, :, None], 1), last, tf.gather_nd(x, steps, batch_dims=1)])


@network((2, 9))
def sorted_values() -> Any:
    given = Input((4, 6))
    x = layers.Dense(6)(given)
    best, places = tf.math.top_k(x, k=3)
    found = [best, tf.sort(x, direction="DESCENDING"), tf.sort(x, axis=1), tf.roll(x, [-1, 2], [1, 2])]
    found += [tf.reverse(x, [1]), tf.repeat(x, 2, axis=1), tf.repeat(x, [1, 2, 0, 1], axis=1), tf.roll(x, 1, 2)]
    return Model(given, [*found, tf.cast(places, "float32"), tf.cast(tf.argsort(x), "float32")])


@network((2, 13))
def functions_of_values() -> Any:
    given = Input((4, 6))
    x = layers.Dense(4)(given)
    y = tf.abs(x) + 0.5
    small = x / 10.0
    found = [tf.math.tan(small), tf.math.sinh(x), tf.math.cosh(x), tf.math.asinh(x), tf.math.acosh(y + 0.6)]
    found += [tf.math.atan(x), tf.math.asin(small), tf.math.acos(small), tf.math.atanh(small), tf.math.erfc(x)]
    found += [tf.math.erfinv(small), tf.math.log_sigmoid(x), tf.math.rint(x), tf.math.xlogy(tf.nn.relu(x), y)]
    found += [tf.math.reciprocal_no_nan(tf.nn.relu(x)), tf.math.multiply_no_nan(x, tf.nn.relu(x))]
    found += [tf.math.cumsum(x, 1, exclusive=True), tf.math.cumsum(x, 2, reverse=True), tf.math.cumprod(x, 1)]
    found += [tf.math.cumprod(x, 1, exclusive=True, reverse=True), tf.clip_by_norm(x, 1.0, axes=[2])]
    found += [tf.cast(tf.saturate_cast(100.0 * x, tf.uint8), "float32"), x + tf.eye(tf.shape(x)[1])]
    found += [x * tf.linspace(0.5, 1.0, tf.shape(x)[1])]
    found += [tf.cast(one, "float32") for one in (tf.math.is_finite(x), tf.math.is_nan(x), tf.math.is_inf(x))]
    found += [tf.ensure_shape(x, [None, 4, 4])]
    found += [tf.math.scalar_mul(0.3, x), tf.realdiv(x, y), tf.linalg.matrix_transpose(x)]
    counted = tf.cast(tf.math.count_nonzero(x > 0.0, axis=1), "float32")
    vectors = [
        counted,
        tf.linalg.diag_part(x),
        tf.tensordot(x, np.ones((4, 2), "float32"), 1)[:, 0],
    ]
    single = [tf.expand_dims(tf.linalg.trace(x), -1), keras.backend.batch_flatten(x), tf.nn.embedding_lookup(x[0], [1])]
    return Model(given, [tf.concat(found, -1), tf.nn.crelu(x), *vectors, *single])


@network((2, 9))
def functions_of_images() -> Any:
    given, raw = Input((8, 9, 3)), Input((8, 8, 3))
    x = layers.Conv2D(3, 1)(given)
    found = [tf.image.rgb_to_grayscale(x), tf.image.grayscale_to_rgb(x[..., :1]), tf.image.per_image_standardization(x)]
    found += [tf.image.adjust_brightness(x, 0.1), tf.image.adjust_contrast(x, 1.5), tf.image.central_crop(x, 0.5)]
    found += [tf.image.crop_to_bounding_box(x, 1, 2, 4, 5), tf.image.pad_to_bounding_box(x, 1, 2, 10, 12)]
    found += [tf.image.resize_with_crop_or_pad(x, 6, 12), tf.image.transpose(x), tf.image.rot90(x)]
    found += [tf.image.convert_image_dtype(x, tf.float32), tf.nn.local_response_normalization(x, 1, 2.0, 0.5, 0.75)]
    patches = tf.image.extract_patches(raw, [1, 4, 4, 1], [1, 4, 4, 1], [1, 1, 1, 1], "VALID")
    kernel = np.random.RandomState(2).randn(3, 3, 3, 2).astype("float32")
    found += [patches, tf.nn.conv2d(x, kernel, 2, "SAME"), tf.nn.depthwise_conv2d(x, kernel, [1, 1, 1, 1], "VALID")]
    found += [tf.nn.conv1d(x[:, 0], kernel[0], 1, "SAME"), keras.backend.pool2d(x, (2, 2), (2, 2))]
    return Model([given, raw], [*found, tf.nn.avg_pool2d(x, 4, 1, "SAME"), tf.nn.avg_pool2d(x, 3, 2, "SAME")])
