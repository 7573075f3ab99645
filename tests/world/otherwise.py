"""Small Keras 2 models with layers that Keras 3 stores or computes otherwise; `make.py` saves them."""

from typing import Any

from keras_of_its_time import keras, tf
from networks import Input, Model, layers, network


@network()
def averages_uneven() -> Any:
    given = Input((8, 7, 3))
    x = layers.AveragePooling2D((3, 4), strides=(2, 1), padding="same")(layers.Conv2D(4, 1)(given))
    y = layers.AveragePooling2D(3, strides=2, padding="same")(x)
    series = layers.Reshape((56, 3))(given)
    return Model(given, [x, y, layers.AveragePooling1D(4, 3, padding="same")(layers.Conv1D(2, 1)(series))])


@network((2, 9), forms=".h5 .keras")
def axes_in_another_order() -> Any:
    given = Input((4, 5, 6))
    x = layers.LayerNormalization(axis=[-1, -2])(given)
    x = layers.LayerNormalization(axis=[1, 3], epsilon=1e-5)(x)
    return Model(given, layers.LayerNormalization(axis=2, center=False)(x))


@network((2, 9), forms=".h5 .keras")
def enlarged_bicubic() -> Any:
    given = Input((5, 6, 3))
    x = layers.UpSampling2D((2, 4), interpolation="bicubic")(layers.Conv2D(2, 1)(given))
    resized = [tf.image.resize(given, size, "bicubic", antialias=True) for size in ((3, 8), (7, 4))]
    return Model(
        given, [x, tf.image.resize(x, (20, 24), "bicubic"), tf.image.resize(x, (4, 5), antialias=True), *resized]
    )


@network((2, 4), forms=".keras")
def renormalised() -> Any:
    given = Input((6, 6, 3))
    x = layers.BatchNormalization(renorm=True)(layers.Conv2D(4, 3)(given))
    return Model(given, layers.Dense(2)(layers.GlobalAveragePooling2D()(x)))


@network((2, 13), forms=".h5 .keras")
def scaled_by_layer_scale() -> Any:
    from keras.src.applications.convnext import LayerScale  # keras.applications does not export it

    given = Input((6, 6, 4))
    x = layers.DepthwiseConv2D(3, padding="same")(given)
    x = layers.Dense(4)(layers.LayerNormalization(epsilon=1e-6)(x))
    x = layers.Add()([given, LayerScale(1e-6, 4, name="block_layer_scale")(x)])
    return keras.Model(given, layers.GlobalAveragePooling2D()(x))
