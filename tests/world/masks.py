"""Small Keras 2 models whose masks differ from those of Keras 3; `make.py` saves them."""

from typing import Any

from networks import Input, Model, layers, network, preprocessing


def _words(steps: int = 6) -> Any:
    given = Input((steps,), dtype="int32")
    return given, layers.Embedding(10, 4, mask_zero=True)(given)


@network()
def masked_with_states() -> Any:
    first, x = _words()
    second, y = _words(4)
    x, h, c = layers.LSTM(3, return_sequences=True, return_state=True)(x)
    y = layers.LSTM(3, return_sequences=True)(y, initial_state=[h, c])
    given = Input((3,))
    return Model([first, second, given], [y, layers.GRU(3, return_sequences=True)(x, initial_state=given)])


@network((2, 15))
def masks_lost() -> Any:
    given, x = _words()
    scaled = layers.LSTM(3)(preprocessing.Rescaling(0.5)(x))
    return Model(given, [scaled, layers.LSTM(3)(layers.Normalization(axis=None, mean=0.1, variance=0.5)(x))])


@network()
def masks_of_steps() -> Any:
    given = Input((3, 5), dtype="int32")
    x = layers.TimeDistributed(layers.Embedding(10, 3, mask_zero=True))(given)
    y = layers.TimeDistributed(layers.Dense(3))(layers.TimeDistributed(layers.Bidirectional(layers.GRU(2)))(x))
    z = layers.LSTM(2)(layers.TimeDistributed(layers.LSTM(4))(x))
    return Model(given, [layers.GRU(2, return_sequences=True)(y), z])


@network()
def masks_of_nested() -> Any:
    inside, x = _words(5)
    reader = Model(inside, layers.LSTM(4, return_sequences=True)(x), name="reader")
    given = Input((3, 5), dtype="int32")
    return Model(given, layers.TimeDistributed(layers.LSTM(2))(layers.TimeDistributed(reader)(given)))


@network((2, 4))
def masks_of_features() -> Any:
    given = Input((3, 5, 2))
    x = layers.TimeDistributed(layers.LSTM(3))(layers.Masking(0.5)(given))
    y = layers.TimeDistributed(layers.GRU(3))(layers.TimeDistributed(layers.Masking(0.5))(given))
    return Model(given, [layers.LSTM(2)(x), layers.GRU(2)(y)])


@network((2, 4))
def masked_attention() -> Any:
    first, x = _words()
    second, y = _words(5)
    x = layers.Add()([x, layers.MultiHeadAttention(2, 3)(x, y)])
    x = layers.MultiHeadAttention(2, 3)(x, x)
    return Model([first, second], [layers.GlobalAveragePooling1D()(x), layers.Attention()([x, y])])


@network()
def masked_bidirectional() -> Any:
    given, x = _words()
    x = layers.Bidirectional(layers.LSTM(3, return_sequences=True))(x)
    return Model(given, [x, layers.Bidirectional(layers.GRU(2))(x)])
