"""Define the Keras model of the demo, in common Keras style: channels last, "same" padding, functional API."""

import keras
import numpy as np
from keras import layers
from numpy.typing import NDArray

from keras3conv.demo.data import Digits

SEED = 7
EPOCHS = 6
BATCH = 64

MOMENTUM = 0.9
"""The momentum of batch normalization. With Keras' default of 0.99 the moving statistics would hardly change in this
short training.
"""


def build() -> keras.Model:
    """Build a small ResNet: a stem, a block with stride 2 and a projection shortcut, and a block with stride 1."""
    image = keras.Input((8, 8, 1), name="image")
    x = layers.Conv2D(16, 3, padding="same", use_bias=False, name="stem_conv")(image)
    x = layers.BatchNormalization(momentum=MOMENTUM, name="stem_bn")(x)
    x = layers.ReLU()(x)
    x = _block(x, 32, stride=2, name="block1")
    x = _block(x, 32, stride=1, name="block2")
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(image, layers.Dense(10, activation="softmax", name="digit")(x), name="digits_resnet")


def train(model: keras.Model, digits: Digits) -> None:
    """Train a model in place for a few seconds; the order of the images is the same in every run."""
    model.compile(keras.optimizers.Adam(3e-3), "sparse_categorical_crossentropy")
    order = np.random.default_rng(SEED)
    for _ in range(EPOCHS):
        shuffled = order.permutation(len(digits.labels))
        for start in range(0, len(shuffled), BATCH):
            batch = shuffled[start : start + BATCH]
            model.train_on_batch(digits.images[batch], digits.labels[batch])


def predict(model: keras.Model, images: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the probabilities of the digits in inference mode, shape (n, 10)."""
    made: NDArray[np.float32] = keras.ops.convert_to_numpy(model(images, training=False))
    return made


def seeded() -> keras.Model:
    """Build the demo model with the same initial weights in every run."""
    keras.utils.set_random_seed(SEED)
    return build()


def _block(x: keras.KerasTensor, filters: int, *, stride: int, name: str) -> keras.KerasTensor:
    shortcut = x
    if stride > 1:
        shortcut = layers.Conv2D(filters, 1, strides=stride, name=f"{name}_shortcut")(x)
    x = layers.Conv2D(filters, 3, strides=stride, padding="same", use_bias=False, name=f"{name}_conv1")(x)
    x = layers.BatchNormalization(momentum=MOMENTUM, name=f"{name}_bn1")(x)
    x = layers.ReLU()(x)
    x = layers.Conv2D(filters, 3, padding="same", use_bias=False, name=f"{name}_conv2")(x)
    x = layers.BatchNormalization(momentum=MOMENTUM, name=f"{name}_bn2")(x)
    return layers.ReLU()(layers.Add()([x, shortcut]))
