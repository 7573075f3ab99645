"""Small Keras 2 models, one for each kind of layer or saved form; `make.py` saves them.

A network is a function that returns a model. `network(...)` says which versions of Keras can make it and in which
forms it is saved.
"""

from typing import Any, NamedTuple

import numpy as np
from keras_of_its_time import VERSION, keras, tf

layers, Model, Input, Sequential = keras.layers, keras.models.Model, keras.layers.Input, keras.models.Sequential
preprocessing = getattr(getattr(layers, "experimental", None), "preprocessing", layers)


class Network(NamedTuple):
    """A network and how it is saved.

    Attributes:
        make: Returns the model.
        forms: The suffixes of its files; ".weights.h5" is a Keras 2 file of weights beside a ".json".
    """

    make: Any
    forms: Any


NETWORKS: Any = {}
"""The networks by name."""


def network(since: Any = (2, 2), until: Any = (2, 15), forms: str = ".h5") -> Any:
    """Register a network for the versions of Keras from `since` to `until`."""

    def register(make: Any) -> Any:
        if since <= VERSION <= until:
            NETWORKS[make.__name__] = Network(make, tuple(forms.split()))
        return make

    return register


@network(forms=".h5 .keras")
def activations() -> Any:
    x = given = Input((5,))
    names = ["relu", "elu", "selu", "softplus", "softsign", "tanh", "sigmoid", "hard_sigmoid", "exponential"]
    names += ["swish", "gelu"] if VERSION >= (2, 4) else []
    names += ["mish"] if VERSION >= (2, 13) else []
    for name in names:
        x = layers.Dense(5, activation=name)(x)
    x = layers.Activation("hard_sigmoid")(layers.Dense(4)(x))
    return Model(given, layers.Dense(3, activation="softmax")(x))


@network((2, 4))
def activation_functions() -> Any:
    x = given = Input((5,))
    for function in (tf.nn.relu6, tf.nn.leaky_relu, tf.nn.silu, tf.nn.softmax):
        x = layers.Dense(5, activation=function)(x)
    return Model(given, x)


@network(forms=".h5 .keras")
def activation_layers() -> Any:
    x = given = Input((4, 4, 3))
    x = layers.LeakyReLU(alpha=0.2)(layers.Conv2D(3, 1)(x))
    x = layers.LeakyReLU()(layers.Conv2D(3, 1)(x))
    x = layers.ELU(alpha=0.5)(layers.Conv2D(3, 1)(x))
    x = layers.PReLU(shared_axes=[1, 2])(layers.Conv2D(3, 1)(x))
    x = layers.PReLU()(layers.Conv2D(3, 1)(x))
    x = layers.ThresholdedReLU(theta=0.1)(layers.Conv2D(3, 1)(x))
    x = layers.ReLU(max_value=6.0, negative_slope=0.1, threshold=0.2)(layers.Conv2D(3, 1)(x))
    return Model(given, layers.Softmax(axis=2)(x))


@network((2, 4))
def softmax_over_two_axes() -> Any:
    given = Input((4, 3))
    return Model(given, layers.Softmax(axis=[1, 2])(layers.Dense(3)(given)))


@network(forms=".h5 .keras")
def convolutions() -> Any:
    x = given = Input((9, 8, 3))
    x = layers.Conv2D(4, 3, padding="same", strides=2, activation="relu")(x)
    x = layers.DepthwiseConv2D(3, depth_multiplier=2, padding="same")(x)
    x = layers.SeparableConv2D(4, 3, padding="same", dilation_rate=2)(x)
    x = layers.Conv2DTranspose(3, 3, strides=2, padding="same")(x)
    x = layers.Conv2DTranspose(3, 4, strides=2, padding="valid", output_padding=1)(x)
    return Model(given, layers.Conv2D(2, 2, dilation_rate=2, use_bias=False)(x))


@network((2, 9))
def grouped_convolutions() -> Any:
    x = given = Input((9, 4))
    x = layers.Conv1D(8, 3, groups=2)(x)
    x = layers.Conv1DTranspose(4, 3, strides=2, padding="same")(x)
    return Model(given, x)


@network()
def convolutions_of_sequences() -> Any:
    x = given = Input((12, 3))
    x = layers.Conv1D(4, 3, padding="causal", dilation_rate=2)(x)
    x = layers.SeparableConv1D(4, 3, padding="same")(layers.ZeroPadding1D(1)(x))
    x = layers.MaxPooling1D(2)(layers.Cropping1D((1, 2))(x))
    x = layers.UpSampling1D(2)(layers.AveragePooling1D(2)(x))
    both = layers.Concatenate()([layers.GlobalMaxPooling1D()(x), layers.GlobalAveragePooling1D()(x)])
    return Model(given, both)


@network()
def convolutions_of_volumes() -> Any:
    x = given = Input((6, 5, 4, 2))
    x = layers.Conv3D(3, 2, padding="same")(layers.ZeroPadding3D(1)(x))
    x = layers.AveragePooling3D(2)(layers.UpSampling3D(2)(layers.MaxPooling3D(2)(x)))
    return Model(given, layers.GlobalAveragePooling3D()(layers.Conv3DTranspose(2, 2, strides=2)(x)))


@network()
def pooling() -> Any:
    x = given = Input((9, 8, 3))
    x = layers.MaxPooling2D(3, strides=2, padding="same")(x)
    x = layers.AveragePooling2D(3, strides=1, padding="same")(layers.ZeroPadding2D(((1, 0), (2, 1)))(x))
    x = layers.UpSampling2D((2, 3))(layers.Cropping2D(((0, 1), (1, 0)))(x))
    return Model(given, [layers.GlobalMaxPooling2D()(x), layers.GlobalAveragePooling2D()(x)])


@network()
def pooling_uneven() -> Any:
    given = Input((9, 8, 3))
    return Model(given, layers.AveragePooling2D(4, strides=1, padding="same", name="uneven")(given))


@network()
def upsampling_bilinear() -> Any:
    given = Input((3, 4, 2))
    return Model(given, layers.UpSampling2D(2, interpolation="bilinear")(layers.Conv2D(2, 1)(given)))


@network(forms=".h5 .keras")
def normalizations() -> Any:
    x = given = Input((4, 5, 3))
    x = layers.BatchNormalization(epsilon=1e-3)(layers.Conv2D(3, 1)(x))
    x = layers.BatchNormalization(scale=False, momentum=0.9)(layers.Conv2D(3, 1)(x))
    x = layers.BatchNormalization(center=False, axis=1)(x)
    if VERSION >= (2, 4):
        x = layers.LayerNormalization(epsilon=1e-5)(x)
        x = layers.LayerNormalization(axis=[1, 2, 3])(x)
    if VERSION >= (2, 9):
        x = layers.UnitNormalization()(x)
    if VERSION >= (2, 11):
        x = layers.GroupNormalization(groups=1)(x)
    return Model(given, x)


def _tower(frozen: bool) -> Any:
    return Sequential(
        [
            layers.Dense(5, activation="tanh", input_shape=(5,), name="first"),
            layers.Dense(5, activation="tanh", name="second", trainable=not frozen),
            layers.Dense(5, name="third"),
            layers.BatchNormalization(name="last", trainable=not frozen),
        ],
        name="tower",
    )


@network(forms=".h5 .keras .weights.h5")
def frozen_inside() -> Any:
    given = Input((5,))
    return Model(given, layers.Dense(2, name="head")(_tower(True)(given)))


@network(forms=".h5 .keras .weights.h5")
def nested() -> Any:
    inside = Input((5,))
    inner = Model(inside, [layers.Dense(3)(inside), layers.Dense(2)(inside)], name="inner")
    tower = _tower(False)
    first, second = Input((5,)), Input((5,))
    x, y = tower(first), tower(second)
    (p, q), (r, s) = inner(layers.Subtract()([x, y])), inner(x)
    return Model([first, second], [layers.Concatenate()([p, r]), layers.Multiply()([q, s])])


@network(forms=".h5 .keras")
def merges() -> Any:
    first, second = Input((4, 3)), Input((4, 3))
    x, y = layers.Dense(3)(first), layers.Dense(3)(second)
    merged = [kind()([x, y]) for kind in (layers.Add, layers.Subtract, layers.Multiply, layers.Average)]
    merged += [layers.Maximum()([x, y]), layers.Minimum()([x, y])]
    return Model(
        [first, second],
        [
            layers.Concatenate(axis=1)(merged),
            layers.Dot(axes=2)([x, y]),
            layers.Dot(axes=[1, 1], normalize=True)([x, y]),
        ],
    )


@network()
def shapes() -> Any:
    given = Input((4, 6))
    x = layers.Permute((2, 1))(layers.Reshape((4, -1))(given))
    x = layers.Flatten()(layers.Dense(2)(x))
    x = layers.RepeatVector(3)(layers.GaussianNoise(0.1)(layers.Dropout(0.5)(x)))
    return Model(given, layers.ActivityRegularization(0.1)(layers.AlphaDropout(0.1)(x)))


@network((2, 4))
def attention() -> Any:
    query, value = Input((4, 6)), Input((5, 6))
    x = layers.Attention(use_scale=True)([query, value])
    x = layers.AdditiveAttention()([x, value])
    return Model([query, value], layers.MultiHeadAttention(2, 3)(x, value))


@network((2, 9), forms=".keras .h5")
def names_with_slashes() -> Any:
    given = Input((6, 6, 2))
    x = layers.Conv2D(3, 3, name="stem/conv", use_bias=False)(given)
    x = layers.Activation("relu", name="stem/relu")(layers.BatchNormalization(name="stem/bn")(x))
    x = layers.Dense(3, name="block.1")(layers.GlobalAveragePooling2D(name="stem_conv")(x))
    return Model(given, layers.Dense(3, name="block/1")(x))


@network((2, 4))
def names_of_operations() -> Any:
    given = Input((5,))
    a = layers.Dense(4)(given)
    b = layers.Dense(4)(a)
    x = layers.Add()([a, b]) + b
    return Model(given, layers.Dense(2)(tf.concat([layers.Concatenate()([x, a]), a], -1)))


@network((2, 4))
def losses_inside() -> Any:
    given = Input((5,))
    x = layers.Dense(4)(given)
    model = Model(given, layers.Dense(2)(x))
    model.add_loss(tf.reduce_mean(tf.square(x)))
    model.add_metric(tf.reduce_sum(x), name="sum", aggregation="mean")
    return model


@network((2, 9), forms=".h5 .keras")
def normalization_first() -> Any:
    normalizer = layers.Normalization(axis=-1)
    table = np.random.RandomState(1).randn(30, 4) * [1, 2, 3, 4] + [1, 2, 3, 4]
    normalizer.adapt(table.astype("float32"))
    model = Sequential([normalizer, layers.Dense(3, activation="relu"), layers.Dense(1)])
    model(table.astype("float32"))
    return model


@network(forms=".h5 .keras")
def dense_first() -> Any:
    model = Sequential([layers.Dense(4, activation="relu"), layers.Dense(2)])
    model.build((None, 5))
    return model


@network((2, 4), forms=".h5 .keras")
def convolution_first() -> Any:
    model = Sequential([layers.Conv2D(3, 2), layers.GlobalAveragePooling2D(), layers.Dense(2)])
    model(np.zeros((1, 5, 5, 2), "float32"))
    return model


@network((2, 4), forms=".h5 .keras")
def augmentation_first() -> Any:
    x = given = Input((6, 6, 3))
    x = preprocessing.RandomRotation(0.1)(preprocessing.RandomFlip("horizontal")(x))
    x = preprocessing.RandomTranslation(0.1, 0.1)(preprocessing.RandomZoom(0.1)(preprocessing.RandomContrast(0.1)(x)))
    x = layers.Conv2D(3, 3)(preprocessing.Rescaling(1 / 127.5, offset=-1)(x))
    return Model(given, layers.GlobalAveragePooling2D()(x))


@network((2, 4))
def augmentation_in_a_sequential() -> Any:
    head = Sequential([preprocessing.RandomFlip(input_shape=(6, 6, 3)), preprocessing.RandomZoom(0.1)], name="head")
    return Sequential([head, layers.Conv2D(3, 3), layers.GlobalAveragePooling2D()])


@network((2, 9), forms=".h5 .keras")
def mixed_precision(policy: str = "mixed_float16") -> Any:
    given = Input((5,))
    x = layers.Dense(4, activation="relu", dtype=policy)(given)
    x = layers.BatchNormalization(dtype=policy)(x)
    return Model(given, layers.Dense(2, dtype="float32")(x))


@network((2, 4))
def dictionaries() -> Any:
    first, second = Input((4,), name="b"), Input((3,), name="a")
    x = layers.Concatenate()([layers.Dense(4)(first), second])
    return Model({"b": first, "a": second}, {"zeta": layers.Dense(2)(x), "alpha": layers.Dense(3)(x)})


@network()
def masked() -> Any:
    given = Input((6,), dtype="int32")
    x = layers.Embedding(10, 4, mask_zero=True)(given)
    return Model(given, layers.Dense(2)(layers.LSTM(3, recurrent_activation="sigmoid")(x)))


@network()
def words_as_floats() -> Any:
    model = Sequential([layers.Embedding(10, 4, mask_zero=True, input_length=6), layers.LSTM(3), layers.Dense(2)])
    model.build((None, 6))
    return model


@network((2, 4))
def cropped_images() -> Any:
    x = given = Input((None, None, 3))
    x = layers.MaxPooling2D(2)(layers.Conv2D(3, 5)(x))
    return Model(given, layers.Conv2D(2, 3)(layers.Cropping2D(20)(x)))


@network((2, 4))
def axes_of_normalizations() -> Any:
    given = Input((3, 4, 5))
    x = layers.BatchNormalization(axis=2, epsilon=0.1)(layers.BatchNormalization(axis=1)(given))
    return Model(given, layers.BatchNormalization(axis=-1, center=False, scale=False)(x))


@network((2, 4))
def attention_scores() -> Any:
    first, second, images = Input((4, 6)), Input((5, 3)), Input((3, 4, 6))
    x, scores = layers.MultiHeadAttention(2, 3, value_dim=4)(first, second, return_attention_scores=True)
    y = layers.MultiHeadAttention(2, 3, attention_axes=(2,))(images, images)
    return Model([first, second, images], [x, scores, y])


@network(forms=".h5 .keras .weights.h5")
def called_on_itself() -> Any:
    inside = Input((5,))
    inner = Model(inside, layers.Dense(5)(_tower(True)(layers.Dense(5, trainable=False)(inside))), name="inner")
    given = Input((5,))
    return Model(given, layers.Dense(2)(inner(inner(given))))


@network((2, 4))
def cudnn() -> Any:
    home = tf.compat.v1.keras.layers
    given = Input((5, 3))
    x = home.CuDNNLSTM(4, return_sequences=True, name="long")(given)
    return Model(given, home.CuDNNGRU(3, name="gated")(x))


def _without_cudnn() -> Any:
    given = Input((5, 3))
    x = layers.LSTM(4, return_sequences=True, recurrent_activation="sigmoid", name="long")(given)
    return Model(given, layers.GRU(3, reset_after=True, recurrent_activation="sigmoid", name="gated")(x))


SHAPES: Any = {
    "dense_first": (5,),
    "convolution_first": (5, 5, 2),
    "normalization_first": (4,),
    "cropped_images": (101, 100, 3),
    "heads_by_sizes": (5, 8),
    "shuffled_by_sizes": (5, 4, 8),
}
"""The input shapes of models without an input specification, or with dynamic sizes."""

WORDS: Any = {"words_as_floats": (6,)}
"""The shapes of inputs that are words in floating-point numbers."""

PADDING: Any = {"masked_steps": -1, "masks_of_features": 0.5}
"""The value that a model masks in its input of floating-point numbers."""

REFERENCES: Any = {
    "cudnn": _without_cudnn,
    "mixed_precision": lambda: mixed_precision("float32"),
}
"""The models that give the golden outputs if the saved one cannot run on a CPU or computes in half precision."""


@network()
def refused() -> Any:
    given = Input((6, 6, 2))
    x = layers.LocallyConnected2D(2, 3, name="local")(given)
    return Model(given, layers.Lambda(lambda value: value * 2, name="twice")(x))
