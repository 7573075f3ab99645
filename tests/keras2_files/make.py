"""Write the test files: `python make.py FOLDER`, once for each Keras 2 version, in a matching environment.

Every model is saved as one `.h5`, with its outputs for random inputs in an `.npz` of the same name. The folders
are named after what wrote them: keras-2.3.1 (on TensorFlow 2.1), tensorflow-2.1.4, -2.4.4, -2.15.1.
"""

import os
import sys
import warnings
from pathlib import Path
from typing import Any

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
warnings.simplefilter("ignore")

import numpy as np  # noqa: E402
import tensorflow as tf  # noqa: E402

FOLDER = Path(sys.argv[1])
STANDALONE = FOLDER.name.startswith("keras-")
if STANDALONE:
    import keras
else:
    keras = tf.keras
layers, Model, Input = keras.layers, keras.models.Model, keras.layers.Input


def convolutions() -> Any:
    given = Input((9, 8, 3))
    x = layers.Conv2D(4, 3, padding="same", kernel_regularizer=keras.regularizers.l2(1e-4))(given)
    x = first = layers.Activation("hard_sigmoid")(layers.BatchNormalization()(x))
    x = layers.ReLU(6.0)(layers.DepthwiseConv2D(3, padding="same")(x))
    x = layers.SeparableConv2D(4, 3, padding="same")(x)
    x = layers.LeakyReLU(alpha=0.2)(layers.Add()([x, first]))
    x = layers.Conv2DTranspose(3, 3, strides=2, padding="same")(layers.SpatialDropout2D(0.1)(x))
    x = layers.ThresholdedReLU(theta=0.5)(layers.Conv2D(2, 3, strides=2, activation="elu")(x))
    return Model(given, layers.Dense(3)(layers.Flatten()(x)))


def nested() -> Any:
    tower = keras.models.Sequential(
        [layers.Dense(6, input_shape=(5,), activation="tanh"), layers.BatchNormalization()], name="tower"
    )
    inside = Input((6,))
    inner = Model(inside, [layers.Dense(3)(inside), layers.Dense(2)(inside)], name="inner")
    first, second = Input((5,), name="a"), Input((5,), name="b")
    x, y = tower(first), tower(second)
    (p, q), (r, s) = inner(layers.Subtract()([x, y])), inner(x)
    return Model([first, second], [layers.Concatenate()([p, r]), layers.Multiply()([q, s])])


def recurrent() -> Any:
    given = Input((6, 4))
    x = layers.Bidirectional(layers.LSTM(3, return_sequences=True))(given)
    x = layers.TimeDistributed(layers.Dense(5, activation="relu"))(x)
    x, state = layers.LSTM(4, return_sequences=True, return_state=True)(x)[:2]
    x = layers.Concatenate()([x, layers.RepeatVector(6)(state)])
    return Model(given, layers.Dense(2)(layers.GRU(3, reset_after=False, recurrent_activation="hard_sigmoid")(x)))


def images() -> Any:
    given = Input((3, 6, 7, 2))
    return Model(given, layers.ConvLSTM2D(3, 3, padding="same")(given))


def translation() -> Any:
    source, target = Input((5,), dtype="int32"), Input((4,), dtype="int32")
    x, h, c = layers.LSTM(4, return_sequences=True, return_state=True)(layers.Embedding(9, 3)(source))
    x = layers.LSTM(4, return_sequences=True)(layers.Embedding(9, 3)(target), initial_state=[h, c])
    return Model([source, target], layers.Dense(9)(x))


def operations() -> Any:
    first, second = Input((6, 4)), Input((6, 4))
    x = layers.Dense(4)(first)
    y = 1.0 - tf.nn.relu(x) * 2.0 + second
    y = tf.concat([tf.math.add(y, x), x], 2)[:, 1:, ::2]
    mean = tf.reduce_mean(y, axis=1, keepdims=True)
    last = tf.transpose(y, [0, 2, 1])[..., -1]
    return Model([first, second], [mean, layers.Dense(2)(last), tf.reshape(y, [-1, 20])])


def attention() -> Any:
    query, value = Input((5, 8)), Input((7, 8))
    x = layers.LayerNormalization(epsilon=1e-6)(layers.Attention(use_scale=True)([query, value]))
    if hasattr(layers, "MultiHeadAttention"):
        x = layers.Add()([x, layers.MultiHeadAttention(2, 4)(x, value, return_attention_scores=True)[0]])
    return Model([query, value], x)


def refused() -> Any:
    given = Input((8, 8, 2))
    x = layers.LocallyConnected2D(2, 3, name="local")(given)
    x = layers.Lambda(lambda value: value * 2, name="twice")(x)
    if not STANDALONE:
        x = tf.math.lgamma(tf.nn.relu(x) + 1.0)
    return Model(given, layers.Flatten()(x))


def shape_of(tensor: Any) -> Any:
    return [2, *(int(size) for size in list(tensor.shape)[1:])]


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    random = np.random.RandomState(0)
    for make in (convolutions, nested, recurrent, images, translation, operations, attention, refused):
        if STANDALONE and make in (operations, attention):
            continue
        keras.backend.clear_session()
        model = make()
        values = [np.asarray(random.uniform(0.1, 0.6, array.shape), array.dtype) for array in model.get_weights()]
        model.set_weights(values)
        inputs = [
            random.randint(0, 9, shape_of(tensor)) if make is translation else random.randn(*shape_of(tensor))
            for tensor in model.inputs
        ]
        inputs = [array.astype("int32" if make is translation else "float32") for array in inputs]
        outputs = model.predict(inputs if len(inputs) > 1 else inputs[0])
        outputs = outputs if isinstance(outputs, list) else [outputs]
        arrays: Any = {f"input_{place}": array for place, array in enumerate(inputs)}
        arrays.update({f"output_{place}": array for place, array in enumerate(outputs)})
        path = str(FOLDER / make.__name__)
        np.savez_compressed(path + ".npz", **arrays)
        if make is nested:
            model.compile("adam", "mse")
        model.save(path + ".h5")


if __name__ == "__main__":
    main()
