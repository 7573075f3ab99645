"""Mistakes in the weights of attention, norms and recurrent layers, in masks, and in the order of heads."""

from tests.support.cause_lines import Case
from tests.torch_backend.fixes.causes.between_layers import NORMED, STEPS, between
from tests.torch_backend.fixes.causes.in_layers import KERAS_HEAD, PLAIN_LSTM, TABLE, WORDS, of_lstm, recurrent

MULTI_HEAD = "att=nn.MultiheadAttention(4, 2, batch_first=True)"
ATTEND = "x = self.att(x, x, x, need_weights=False)[0]"
KERAS_ATTEND = 'x = layers.MultiHeadAttention(2, 2, name="att")(x, x)'
WEIGHTS_OF_ATTENTION = 'att = model.get_layer("att")\nw = att.get_weights()\n'

ATTENTION = [
    between(
        "attention._swapped#2.fix",
        ATTEND,
        KERAS_ATTEND,
        MULTI_HEAD,
        shape=STEPS,
        tamper=f"{WEIGHTS_OF_ATTENTION}att.set_weights([*w[2:4], *w[:2], *w[4:]])",
    ),
    between(
        "attention._heads#2.fix",
        ATTEND,
        KERAS_ATTEND,
        MULTI_HEAD,
        shape=STEPS,
        tamper=f"{WEIGHTS_OF_ATTENTION}turned = [t.swapaxes(-1, -2) for t in w[:6]]\n"
        "att.set_weights([*turned, w[6].swapaxes(0, 1), w[7]])",
    ),
    Case(
        site="masks._attention.fix",
        parts=f"{MULTI_HEAD}, {TABLE}",
        torch="mask = x != 0\nx = self.table(x)\n"
        "x = self.att(x, x, x, need_weights=False%|, key_padding_mask=~mask%)[0]\n"
        "x = self.b((x * mask.unsqueeze(-1)).sum(1))",
        keras='mask = ops.cast(x != 0, "float32")[..., None]\n'
        'x = layers.Embedding(9, 4, mask_zero=True, name="table")(x)\n'
        f"{KERAS_ATTEND}\nx = ops.sum(x * mask, 1)\n{KERAS_HEAD}",
        done="pass",
        **WORDS,
    ),
    Case(
        site="masks._attention.keras",
        parts=f"{MULTI_HEAD}, {TABLE}",
        torch=f"x = self.table(x)\n{ATTEND}\nx = self.b(x[:, 0])",
        keras='x = layers.Embedding(9, 4, mask_zero=True<<>>, name="table")(x)\n'
        f"{KERAS_ATTEND}\nx = x[:, 0]\n{KERAS_HEAD}",
        **WORDS,
    ),
    Case(
        site="masks._recurrent.fix",
        parts=f"lstm=nn.LSTM(4, 4, batch_first=True), {TABLE}",
        torch="mask = x != 0\nx = self.table(x)\n<<x, states = self.lstm(x)>>\nx = self.b(states[0][-1])",
        keras='x = layers.Embedding(9, 4, mask_zero=True, name="table")(x)\n'
        f'x = layers.LSTM(4, name="lstm")(x)\n{KERAS_HEAD}',
        **WORDS,
    ),
]

NORM = 'x = layers.BatchNormalization(epsilon=1e-5, name="norm")(x)'


def of_norm(order: str) -> str:
    """Return the statements that give the weights of the norm of Keras another order."""
    return f'norm = model.get_layer("norm")\nw = norm.get_weights()\nnorm.set_weights([w[i] for i in {order}])'


NORMS = [
    between(
        "normalization._swapped_scale.fix",
        "x = self.norm(x)",
        NORM,
        "norm=nn.BatchNorm1d(4)",
        tamper=of_norm("(1, 0, 2, 3)"),
    ),
    between(
        "normalization._swapped_statistics.fix",
        "x = self.norm(x)",
        NORM,
        "norm=nn.BatchNorm1d(4)",
        tamper='norm = model.get_layer("norm")\ng, b, m, v = norm.get_weights()\n'
        "norm.set_weights([g, b, v, np.abs(m)])\n"
        "module.norm.running_mean.abs_()",
    ),
    between(
        "normalization._batch_statistics#2.fix",
        "n = self.norm\n"
        "x = F.batch_norm(x, n.running_mean.clone(), n.running_var.clone(), n.weight, n.bias, training=True<<>>)",
        NORM,
        "norm=nn.BatchNorm1d(4)",
    ),
    between(
        "normalization._batch_statistics#2.keras",
        "n = self.norm\n"
        "x = F.batch_norm(x, n.running_mean.clone(), n.running_var.clone(), n.weight, n.bias, training=True)",
        NORMED.format("<<x = norm(x)>>"),
        "norm=nn.BatchNorm1d(4)",
    ),
]

BOTH = "lstm=nn.LSTM(4, 2, batch_first=True, bidirectional=True)"

SWAPPED = (
    'one, other = model.get_layer("a"), model.get_layer("c")\n'
    "first, second = one.get_weights(), other.get_weights()\none.set_weights(second)\nother.set_weights(first)"
)

OTHERS = [
    recurrent(
        "recurrent._bias.fix",
        PLAIN_LSTM,
        tamper=of_lstm("b = module.lstm.bias_ih_l0.detach().numpy()"),
    ),
    recurrent(
        "recurrent._weights#2.fix",
        'x = layers.Bidirectional(layers.LSTM(2, return_sequences=True), name="lstm")(x)',
        parts=BOTH,
        tamper='lstm = model.get_layer("lstm")\nw = lstm.get_weights()\nlstm.set_weights([*w[3:], *w[:3]])',
    ),
    recurrent(
        "recurrent._backward_output.keras",
        '<<x = layers.Bidirectional(layers.LSTM(2), name="lstm")(x)>>',
        "x = self.lstm(x)[0][:, -1]",
        BOTH,
        done='x = layers.Bidirectional(layers.LSTM(2, return_sequences=True), name="lstm")(x)[:, -1]',
    ),
    Case(
        site="embedding._reversed_table.fix",
        parts=TABLE,
        torch="weight = self.table.weight\nx = self.b(F.embedding(x, <<weight>>))",
        keras=f'x = layers.Embedding(9, 4, name="table")(x)\n{KERAS_HEAD}',
        tamper='(table,) = model.get_layer("table").get_weights()\nmodel.get_layer("table").set_weights([table[::-1]])',
        **WORDS,
    ),
    Case(
        site="linear._flattened.fix",
        parts="a=nn.Conv2d(4, 4, 1), b=nn.Linear(144, 3)",
        torch="x = self.b(self.a(x).flatten(1))",
        keras='x = layers.Conv2D(4, 1, name="a")(x)\nx = layers.Dense(3, name="b")(layers.Flatten()(x))',
        shape=(4, 6, 6),
        tamper='kernel, bias = model.get_layer("b").get_weights()\n'
        "kernel = kernel.reshape(6, 6, 4, 3).transpose(2, 0, 1, 3).reshape(144, 3)\n"
        'model.get_layer("b").set_weights([kernel, bias])',
    ),
    between(
        "wiring._other_layer.keras",
        "x = torch.tanh(self.c(x))",
        'x = layers.Dense(4, activation="tanh", name="c")(x)',
        "c=nn.Linear(4, 4)",
        tamper=SWAPPED,
    ),
]

OTHERS += [
    between(
        site,
        "x = torch.tanh(self.c(x))",
        'x = layers.Dense(4, activation="tanh", name="c")(x)',
        "c=nn.Linear(4, 4)",
        tamper=SWAPPED,
        probes=True,
    )
    for site in ("wiring._other_layer.fix", "wiring._swapped_layers.fix")
]

OTHERS += [
    between(
        "wiring._other_layer.fix",
        "x = torch.tanh(self.q(x)) * self.k(x)",
        'q, k = layers.Dense(4, name="q")(x), layers.Dense(4, name="k")(x)\nx = ops.tanh(k) * q',
        "q=nn.Linear(4, 4), k=nn.Linear(4, 4)",
        tamper='one, other = model.get_layer("q"), model.get_layer("k")\n'
        "first, second = one.get_weights(), other.get_weights()\none.set_weights(second)\nother.set_weights(first)",
    )
]

HEADS = (
    "def split(x):\n    <<x = x.unflatten(-1, (2, -1))>>\n    return x.transpose(1, 2)\nheads = 2\n"
    "q, k, v = split(self.q(x)), split(self.k(x)), split(self.v(x))\n"
)
MERGED = "x = x.transpose(1, 2)\nx = %x.flatten(2)|x.transpose(-1, -2).flatten(2)%"
KERAS_PARTS = "\n".join(f'{name} = layers.Dense(4, name="{name}")(x)' for name in "qkv")
PARTS = "q=nn.Linear(4, 4), k=nn.Linear(4, 4), v=nn.Linear(4, 4)"
WIDTHS_FIRST = (
    f"{KERAS_PARTS}\nsplit = lambda x: ops.transpose(ops.reshape(x, (-1, 5, 2, 2)), (0, 3, 1, 2))\n"
    "q, k, v = split(q), split(k), split(v)\n"
    "x = ops.matmul(ops.softmax(ops.matmul(q, ops.swapaxes(k, -1, -2)) * 2**-0.5), v)\n"
    "x = ops.reshape(ops.transpose(x, (0, 2, 3, 1)), (-1, 5, 4))"
)
PLAIN_HEADS = HEADS.replace("<<", "").replace(">>", "")
PLAIN_MERGED = "x = x.transpose(1, 2).flatten(2)"
ALTERNATIVES = (
    f"{KERAS_PARTS}\nfirst = <<3>>\nlast = 5 - first\n"
    "split = lambda x: ops.transpose(ops.reshape(x, (-1, 5, 2, 2)), (0, first, 1, last))\n"
    "q, k, v = split(q), split(k), split(v)\n"
    "x = ops.matmul(ops.softmax(ops.matmul(q, ops.swapaxes(k, -1, -2)) * 2**-0.5), v)\n"
    "x = ops.reshape(ops.transpose(x, (0, 2, 3, 1) if first == 3 else (0, 2, 1, 3)), (-1, 5, 4))"
)
SDPA = "x = F.scaled_dot_product_attention(q, k, v)\n"
OWN = "x = (q @ k.transpose(-1, -2) * 2**-0.5).softmax(-1) @ v\n"

ORDERS = [
    between("attention._heads.fix", HEADS + SDPA + MERGED, WIDTHS_FIRST, PARTS, shape=STEPS),
    between("attention._heads.keras", PLAIN_HEADS + SDPA + PLAIN_MERGED, ALTERNATIVES, PARTS, shape=STEPS, done="2"),
    between(
        "axes._split_and_merged.keras", PLAIN_HEADS + OWN + PLAIN_MERGED, ALTERNATIVES, PARTS, shape=STEPS, done="2"
    ),
    between("axes._split_and_merged.fix", HEADS + OWN + MERGED, WIDTHS_FIRST, PARTS, shape=STEPS),
    between(
        "axes._split.keras",
        "x = x.reshape(-1, 2, 2).tanh().amax(1)\nx = torch.cat([x, x], 1)",
        "x = <<ops.transpose(ops.reshape(x, (-1, 2, 2)), (0, 2, 1))>>\n"
        "x = ops.max(ops.tanh(x), 1)\nx = ops.concatenate([x, x], 1)",
        done="ops.reshape(x, (-1, 2, 2))",
    ),
    between(
        "axes._merged.keras",
        "x = x.unflatten(2, (2, 2))\nx = torch.tanh(x[:, :, :1] + x)\nx = x.flatten(2)",
        "x = ops.reshape(x, (-1, 5, 2, 2))\nx = ops.tanh(x[:, :, :1] + x)\n"
        "x = ops.reshape(<<ops.transpose(x, (0, 1, 3, 2))>>, (-1, 5, 4))",
        shape=STEPS,
        done="x",
    ),
    between(
        "shape._packed_by_head.fix",
        "x = self.c(x)\n<<pass>>\nq, k, v = x.chunk(3, -1)\nx = torch.tanh(q) * k + v",
        'x = layers.Dense(12, name="c")(x)\nx = ops.transpose(ops.reshape(x, (-1, 2, 3, 2)), (0, 2, 1, 3))\n'
        "q, k, v = ops.split(ops.reshape(x, (-1, 12)), 3, -1)\nx = ops.tanh(q) * k + v",
        "c=nn.Linear(4, 12)",
    ),
    between(
        "shape._packed_by_head.keras",
        "q, k, v = self.c(x).chunk(3, -1)\nx = torch.tanh(q) * k + v",
        'x = layers.Dense(12, name="c")(x)\n<<pass>>\n'
        "x = ops.transpose(ops.reshape(x, (-1, 2, 3, 2)), (0, 2, 1, 3))\n"
        "q, k, v = ops.split(ops.reshape(x, (-1, 12)), 3, -1)\nx = ops.tanh(q) * k + v",
        "c=nn.Linear(4, 12)",
    ),
]

CASES = [*ATTENTION, *NORMS, *OTHERS, *ORDERS]
