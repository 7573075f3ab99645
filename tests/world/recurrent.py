"""Small Keras 2 models with recurrent layers and wrappers of layers; `make.py` saves them."""

from typing import Any

from networks import Input, Model, Sequential, layers, network


@network(forms=".h5 .keras")
def recurrent() -> Any:
    given = Input((6, 4))
    x = layers.LSTM(5, return_sequences=True, recurrent_activation="hard_sigmoid")(given)
    x = layers.GRU(4, return_sequences=True, reset_after=True)(x)
    x = layers.GRU(4, return_sequences=True, reset_after=False, recurrent_activation="hard_sigmoid")(x)
    x = layers.LSTM(4, return_sequences=True, implementation=2, recurrent_activation="sigmoid")(x)
    x = layers.SimpleRNN(4, return_sequences=True, go_backwards=True)(x)
    return Model(given, layers.LSTM(3, unit_forget_bias=False, use_bias=False, activation="relu")(x))


@network()
def recurrent_by_default() -> Any:
    given = Input((5, 3))
    return Model(given, layers.GRU(3)(layers.LSTM(4, return_sequences=True)(given)))


@network()
def recurrent_images() -> Any:
    given = Input((3, 6, 5, 2))
    x = layers.ConvLSTM2D(3, 3, padding="same", return_sequences=True)(given)
    return Model(given, layers.ConvLSTM2D(2, 3, recurrent_activation="sigmoid")(x))


@network()
def recurrent_cells() -> Any:
    given = Input((5, 3))
    cells = [layers.LSTMCell(4, recurrent_activation="hard_sigmoid"), layers.GRUCell(3), layers.SimpleRNNCell(2)]
    return Model(given, layers.RNN(cells, return_sequences=True)(given))


@network(forms=".h5 .keras")
def bidirectional() -> Any:
    given = Input((6, 4))
    x = layers.Bidirectional(layers.LSTM(3, return_sequences=True, recurrent_activation="hard_sigmoid"))(given)
    x = layers.Bidirectional(layers.GRU(3, return_sequences=True, reset_after=True), merge_mode="sum")(x)
    x = layers.Bidirectional(layers.SimpleRNN(4, return_sequences=True), merge_mode="mul")(x)
    x, y = layers.Bidirectional(layers.LSTM(3, return_sequences=True), merge_mode=None)(x)
    return Model(given, layers.Bidirectional(layers.GRU(2), merge_mode="ave")(layers.Concatenate()([x, y])))


@network((2, 4))
def bidirectional_of_two() -> Any:
    given = Input((5, 3))
    backward = layers.GRU(4, return_sequences=True, go_backwards=True, activation="relu")
    return Model(given, layers.Bidirectional(layers.LSTM(4, return_sequences=True), backward_layer=backward)(given))


@network()
def bidirectional_backwards() -> Any:
    given = Input((5, 3))
    x = layers.Bidirectional(layers.GRU(4, return_sequences=True, go_backwards=True, reset_after=False))(given)
    return Model(given, layers.Bidirectional(layers.LSTM(3, go_backwards=True))(x))


@network((2, 4))
def bidirectional_with_states() -> Any:
    given, first, second = Input((4, 3)), Input((3,)), Input((3,))
    layer = layers.Bidirectional(layers.GRU(3, return_sequences=True))
    return Model([given, first, second], layer(given, initial_state=[first, second]))


@network((2, 4))
def states() -> Any:
    given, more = Input((5, 3)), Input((4, 3))
    x, h, c = layers.LSTM(4, return_sequences=True, return_state=True)(given)
    y, _, _ = layers.LSTM(4, return_sequences=True, return_state=True)(more, initial_state=[h, c])
    z, state = layers.GRU(3, return_state=True)(x)
    return Model([given, more], [y, layers.Concatenate()([z, state])])


@network(forms=".h5 .keras")
def time_distributed() -> Any:
    given = Input((3, 6, 6, 2))
    frame = Sequential([layers.Conv2D(3, 3, input_shape=(6, 6, 2)), layers.BatchNormalization()], name="frame")
    x = layers.TimeDistributed(frame)(given)
    x = layers.TimeDistributed(layers.BatchNormalization())(layers.TimeDistributed(layers.Conv2D(2, 2))(x))
    x = layers.TimeDistributed(layers.Flatten())(layers.TimeDistributed(layers.MaxPooling2D(2))(x))
    return Model(given, layers.LSTM(3)(x))


@network()
def time_distributed_words() -> Any:
    given = Input((3, 5), dtype="int32")
    x = layers.TimeDistributed(layers.LSTM(4))(layers.TimeDistributed(layers.Embedding(10, 3))(given))
    return Model(given, layers.Bidirectional(layers.LSTM(2))(x))


@network((2, 15))
def masked_steps() -> Any:
    given = Input((6, 3))
    x = layers.GRU(4, return_sequences=True)(layers.Masking(-1.0)(given))
    x = layers.Bidirectional(layers.LSTM(3, return_sequences=True))(layers.Dropout(0.1)(x))
    return Model(given, layers.SimpleRNN(2, go_backwards=True)(x))


@network((2, 15))
def masked_mean() -> Any:
    given = Input((6,), dtype="int32")
    x = layers.Embedding(10, 4, mask_zero=True)(given)
    x = layers.Dense(3)(layers.LSTM(4, return_sequences=True)(x))
    return Model(given, layers.GlobalAveragePooling1D()(layers.Embedding(10, 4, mask_zero=True)(given)) + x[:, 0, :1])


@network((2, 15))
def masked_state() -> Any:
    given = Input((6,), dtype="int32")
    x, h, c = layers.LSTM(4, return_sequences=True, return_state=True)(layers.Embedding(10, 4, mask_zero=True)(given))
    return Model(given, [layers.TimeDistributed(layers.Dense(2))(x), layers.Concatenate()([h, c])])


@network((2, 4))
def masks_merged() -> Any:
    first, second, plain = Input((6,), dtype="int32"), Input((6,), dtype="int32"), Input((6, 4))
    x, y = (layers.Embedding(10, 4, mask_zero=True)(given) for given in (first, second))
    merged = [layers.Add()([x, y]), layers.Multiply()([x, plain]), layers.Concatenate()([x, y])]
    return Model([first, second, plain], [layers.LSTM(3)(one) for one in merged])
