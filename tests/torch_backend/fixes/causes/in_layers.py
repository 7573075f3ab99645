"""Mistakes in matrix products, embeddings and recurrent layers, and in their weights."""

from typing import Any

from tests.support.cause_lines import Case
from tests.torch_backend.fixes.causes.between_layers import STEPS, between

TABLE = "table=nn.Embedding(9, 4), b=nn.Linear(4, 3)"
WORDS: dict[str, Any] = {"shape": (5,), "integers": True}
KERAS_HEAD = 'x = layers.Dense(3, name="b")(x)'

MATRICES = [
    between(
        "linear._transposed.fix",
        "pass",
        "pass",
        tamper='kernel, bias = model.get_layer("a").get_weights()\nmodel.get_layer("a").set_weights([kernel.T, bias])',
    ),
    between(
        "linear._no_bias.fix",
        "x = self.c(x)",
        'x = layers.Dense(4, name="c")(x)',
        "c=nn.Linear(4, 4<<>>)",
        tamper='c = model.get_layer("c")\nc.set_weights([c.get_weights()[0], np.zeros(4)])',
    ),
    Case(
        site="embedding._row_offset.fix",
        parts=TABLE,
        torch="indices = x\n<<pass>>\nx = self.b(self.table(indices))",
        keras=f'x = layers.Embedding(9, 4, name="table")((x + 1) % 9)\n{KERAS_HEAD}',
        **WORDS,
    ),
    Case(
        site="embedding._row_offset.keras",
        parts=TABLE,
        torch="x = self.b(self.table(x))",
        keras=f'indices = (x + 1) % 9\n<<pass>>\nx = layers.Embedding(9, 4, name="table")(indices)\n{KERAS_HEAD}',
        **WORDS,
    ),
    Case(
        site="embedding._padding_row.fix",
        parts=TABLE,
        torch="indices = x\nx = self.table(x)\n<<pass>>\nx = self.b(x)",
        keras='indices = x\nx = layers.Embedding(9, 4, name="table")(x)\n'
        f"x = x * ops.cast(indices != 0, 'float32')[..., None]\n{KERAS_HEAD}",
        **WORDS,
    ),
    Case(
        site="embedding._padding_row.keras",
        parts=TABLE,
        torch="x = self.b(self.table(x))",
        keras='indices = x\nx = layers.Embedding(9, 4, name="table")(x)\n'
        f"<<x = x * ops.cast(indices != 0, 'float32')[..., None]>>\n{KERAS_HEAD}",
        done="pass",
        **WORDS,
    ),
    Case(
        site="embedding._missing_table.keras",
        parts="table=nn.Embedding(9, 4), types=nn.Embedding(9, 4), b=nn.Linear(4, 3)",
        torch="x = self.b(self.table(x) + self.types(x))",
        keras=f'indices = x\nx = layers.Embedding(9, 4, name="table")(x)\n<<pass>>\n{KERAS_HEAD}',
        plan='plan = plan.ignore("types", "Keras has none", side="torch")',
        **WORDS,
    ),
    Case(
        site="embedding._reversed_table.keras",
        parts=TABLE,
        torch="x = self.b(self.table(x))",
        keras=f'x = layers.Embedding(9, 4, name="table")(x)\n{KERAS_HEAD}',
        tamper='(table,) = model.get_layer("table").get_weights()\nmodel.get_layer("table").set_weights([table[::-1]])',
        **WORDS,
    ),
    Case(
        site="masks._reduction.fix",
        parts=TABLE,
        torch="mask = x != 0\nx = self.table(x)\n<<x = x.mean(1)>>\nx = self.b(x)",
        keras=f'x = layers.Embedding(9, 4, mask_zero=True, name="table")(x)\nx = layers.GlobalAveragePooling1D()(x)\n'
        f"{KERAS_HEAD}",
        **WORDS,
    ),
    Case(
        site="masks._reduction.keras",
        parts=TABLE,
        torch="x = self.b(self.table(x).mean(1))",
        keras='x = layers.Embedding(9, 4, mask_zero=True<<>>, name="table")(x)\n'
        f"x = layers.GlobalAveragePooling1D()(x)\n{KERAS_HEAD}",
        **WORDS,
    ),
    Case(
        site="masks._recurrent.keras",
        parts=f"lstm=nn.LSTM(4, 4, batch_first=True), {TABLE}",
        torch="x = self.b(self.lstm(self.table(x))[0][:, -1])",
        keras='x = layers.Embedding(9, 4, mask_zero=True<<>>, name="table")(x)\n'
        f'x = layers.LSTM(4, name="lstm")(x)\n{KERAS_HEAD}',
        **WORDS,
    ),
    Case(
        site="masks._own_mask.fix",
        parts=TABLE,
        torch="mask = x != 0\nx = self.table(x)\n<<pass>>\n"
        "x = self.b((x * mask.unsqueeze(-1)).sum(1) / mask.sum(1, keepdim=True).clamp(min=1))",
        keras=f'x = layers.Embedding(9, 4, name="table")(x)\nx = ops.mean(x, 1)\n{KERAS_HEAD}',
        **WORDS,
    ),
    Case(
        site="masks._own_mask.keras",
        parts=TABLE,
        torch="mask = x != 0\nx = self.table(x)\n"
        "x = self.b((x * mask.unsqueeze(-1)).sum(1) / mask.sum(1, keepdim=True).clamp(min=1))",
        keras='mask = ops.ones_like(x, "bool")\n<<pass>>\nmask = ops.cast(mask, "float32")[..., None]\n'
        'x = layers.Embedding(9, 4, name="table")(x)\n'
        f"x = ops.sum(x * mask, 1) / ops.maximum(ops.sum(mask, 1), 1)\n{KERAS_HEAD}",
        **WORDS,
    ),
]

LSTM = "lstm=nn.LSTM(4, 4, batch_first=True)"


def recurrent(
    site: str, keras_lines: str, torch_lines: str = "x = self.lstm(x)[0]", parts: str = LSTM, **options: Any
) -> Case:
    return between(site, torch_lines, keras_lines, parts, shape=STEPS, **options)


PLAIN_LSTM = 'x = layers.LSTM(4, return_sequences=True, name="lstm")(x)'


def of_lstm(change: str) -> str:
    """Return the statements that change the three weights of the LSTM of Keras: w, r and b."""
    return f'w, r, b = model.get_layer("lstm").get_weights()\n{change}\nmodel.get_layer("lstm").set_weights([w, r, b])'


RECURRENT = [
    recurrent(
        "recurrent._direction.fix",
        'x = layers.LSTM(4, return_sequences=True, go_backwards=True, name="lstm")(x)',
        "<<pass>>\nx = self.lstm(x)[0]",
    ),
    recurrent(
        "recurrent._direction.keras",
        'x = layers.LSTM(4, return_sequences=True, go_backwards=True<<>>, name="lstm")(x)',
    ),
    recurrent(
        "recurrent._cell_state.keras",
        'lstm = layers.LSTM(4, return_state=True, name="lstm")\n<<_, hidden, cell = lstm(x)>>\nx = %cell|hidden%',
        "x = self.lstm(x)[1][0][0]",
    ),
    recurrent(
        "recurrent_activation._other_activations.keras",
        'x = layers.LSTM(4, return_sequences=True, recurrent_activation="hard_sigmoid"<<>>, name="lstm")(x)',
    ),
    recurrent(
        "recurrent_activation._other_activations#2.keras",
        'x = layers.SimpleRNN(4, return_sequences=True, activation="relu"<<>>, name="rnn")(x)',
        "x = self.rnn(x)[0]",
        "rnn=nn.RNN(4, 4, batch_first=True)",
    ),
    recurrent(
        "recurrent._gate_order.fix",
        PLAIN_LSTM,
        tamper=of_lstm(
            "w, r, b = (np.concatenate([np.split(t, 4, -1)[i] for i in (0, 2, 1, 3)], -1) for t in (w, r, b))"
        ),
    ),
    recurrent(
        "recurrent._weights.fix",
        PLAIN_LSTM,
        tamper=of_lstm("r = np.concatenate([t.T for t in np.split(r, 4, -1)], -1)"),
    ),
    recurrent(
        "recurrent._weights#3.fix",
        PLAIN_LSTM,
        tamper=of_lstm("b = b + np.repeat([0, 1, 0, 0], 4).astype('float32')"),
    ),
]

CASES = [*MATRICES, *RECURRENT]
