"""Mistakes between two layers: activations, numbers, parts, axes and images."""

from typing import Any

from tests.support.cause_lines import Case

VECTOR = (
    "a=nn.Linear(4, 4), b=nn.Linear(4, 3)",
    'x = layers.Dense(4, name="a")(x)',
    'x = layers.Dense(3, name="b")(x)',
)
IMAGE = (
    "a=nn.Conv2d(4, 4, 1), b=nn.Conv2d(4, 3, 1)",
    'x = layers.Conv2D(4, 1, name="a")(x)',
    'x = layers.Conv2D(3, 1, name="b")(x)',
)
STEPS = (5, 4)
PICTURE = (4, 6, 6)


def between(site: str, torch_lines: str, keras_lines: str, parts: str = "", **options: Any) -> Case:
    """Return a case whose lines stand between two layers: of vectors and sequences, or of images."""
    layers, first, last = IMAGE if len(options.get("shape", ())) == 3 else VECTOR
    return Case(
        site=site,
        parts=f"{layers}, {parts}",
        torch=f"x = self.a(x)\n{torch_lines}\nx = self.b(x)",
        keras=f"{first}\n{keras_lines}\n{last}",
        **options,
    )


ACTIVATIONS = [
    between("activation._gelu.fix", "x = self.act(x)", "x = ops.gelu(x, approximate=True)", "act=<<nn.GELU()>>"),
    between("activation._gelu.keras", "x = self.act(x)", "<<x = ops.gelu(x, approximate=True)>>", "act=nn.GELU()"),
    between(
        "activation._slope.fix",
        "x = self.act(x)",
        "x = ops.leaky_relu(x, negative_slope=0.3)",
        "act=<<nn.LeakyReLU(0.2)>>",
    ),
    between(
        "activation._slope.keras",
        "x = self.act(x)",
        "<<x = ops.leaky_relu(x, negative_slope=0.3)>>",
        "act=nn.LeakyReLU(0.2)",
    ),
    between("activation._alpha.fix", "x = self.act(x)", "x = ops.elu(x)", "act=<<nn.ELU(0.5)>>"),
    between("activation._alpha.keras", "x = self.act(x)", "<<x = ops.elu(x)>>", "act=nn.ELU(0.5)"),
    between("activation._missing_in_keras.keras", "x = torch.tanh(x)", "<<pass>>"),
    between("activation._other_activation.fix", "<<x = F.relu(x)>>", "x = ops.tanh(x)"),
    between("activation._other_activation.keras", "x = self.act(x)", "<<x = ops.relu(x)>>", "act=nn.Tanh()"),
    between("activation._other_activation.keras", "x = F.hardtanh(x, -0.5, 2)", "<<x = ops.relu(x)>>"),
    between("activation._missing_in_torch.fix", "<<pass>>", "x = ops.sigmoid(x)"),
    between("activation._missing_in_torch.keras", "pass", "<<x = ops.sigmoid(x)>>", done="pass"),
    between(
        "activation._before_an_addition.keras",
        "x = torch.relu(self.c(x) + x)",
        'first, second = layers.Dense(4, name="c")(x), x\n<<x = ops.relu(first) + second>>',
        "c=nn.Linear(4, 4)",
        dots='"relu"',
    ),
    between("activation._other_function.fix", "<<x = torch.abs(x)>>", "x = ops.square(x)"),
    between("activation._other_function.keras", "x = torch.square(x)", "<<x = ops.abs(x)>>"),
    between(
        "activation._function_missing_in_torch.fix", "x = x - torch.cos(x)\n<<pass>>", "x = ops.abs(x - ops.cos(x))"
    ),
    between(
        "activation._function_missing_in_torch.keras",
        "x = x - torch.cos(x)",
        "x = x - ops.cos(x)\n<<x = ops.abs(x)>>",
        done="pass",
    ),
]

NORMED = """
class Normed(layers.Layer):
    def __init__(self):
        super().__init__(name="own")
        self.norm = layers.BatchNormalization(epsilon=1e-5, name="norm")

    def call(self, x):
        norm = self.norm
        {}
        return x

x = Normed()(x)"""

NORMS = [
    between(
        "normalization._epsilon.fix",
        "x = self.norm(x)",
        'x = layers.LayerNormalization(name="norm", epsilon=1e-3)(x)',
        "norm=<<nn.LayerNorm(4)>>",
    ),
    between(
        "normalization._epsilon.keras",
        "x = self.norm(x)",
        'x = layers.LayerNormalization(name="norm", epsilon=1e-3<<>>)(x)',
        "norm=nn.LayerNorm(4)",
    ),
    between(
        "normalization._added_epsilon.fix",
        "eps = 1e-5\n<<pass>>\nx = x / torch.sqrt((x * x).mean(-1, keepdim=True) + eps)",
        "x = x / ops.sqrt(ops.mean(ops.square(x), -1, keepdims=True) + 1e-3)",
    ),
    between(
        "normalization._added_epsilon.keras",
        "x = x / torch.sqrt((x * x).mean(-1, keepdim=True) + 1e-5)",
        "norm = lambda x, epsilon: x / ops.sqrt(ops.mean(ops.square(x), -1, keepdims=True) + epsilon)\n"
        "x = norm(x, epsilon=1e-3<<>>)",
    ),
    between(
        "normalization._batch_statistics.keras",
        "x = self.norm(x)",
        NORMED.format("<<x = norm(x, training=True)>>"),
        "norm=nn.BatchNorm1d(4)",
    ),
    between(
        "normalization._groups.fix",
        "x = self.norm(x)",
        'x = layers.GroupNormalization(2, epsilon=1e-5, name="norm")(x)',
        "norm=<<nn.GroupNorm(1, 4)>>",
        shape=PICTURE,
    ),
    between(
        "normalization._groups.keras",
        "x = self.norm(x)",
        'x = layers.GroupNormalization(epsilon=1e-5, name="norm", groups=2<<>>)(x)',
        "norm=nn.GroupNorm(1, 4)",
        shape=PICTURE,
    ),
    between(
        "normalization._biased_variance.fix",
        "x = x / <<x.std(-1, keepdim=True)>>",
        "x = x / ops.std(x, -1, keepdims=True)",
        dots="-1, keepdim=True",
    ),
    between(
        "normalization._biased_variance.keras",
        "x = x / x.std(-1, keepdim=True)",
        "variance = ops.var(x, -1, keepdims=True)\n<<pass>>\nx = x / ops.sqrt(variance)",
        done="variance = variance * 4 / 3",
    ),
]

NUMBERS = [
    between("measured._factor.fix", "<<pass>>", "x = x * 2.5"),
    between("measured._factor.keras", "pass", "x = x * 2.5\n<<pass>>"),
    between(
        "measured._branch.fix",
        "y = x\nx = self.c(x)\n<<pass>>\nx = x + y",
        'x = x + 0.8 * layers.Dense(4, name="c")(x)',
        "c=nn.Linear(4, 4)",
    ),
    between(
        "measured._branch.keras",
        "x = x + self.c(x)",
        'first = x\nx = 0.8 * layers.Dense(4, name="c")(x)\n<<pass>>\nx = first + x',
        "c=nn.Linear(4, 4)",
    ),
    Case(
        site="measured._pixels.fix",
        parts="b=nn.Conv2d(3, 4, 1)",
        torch="<<pass>>\nx = self.b(x)",
        keras='x = layers.Conv2D(4, 1, name="b")(x * 2 - 1)',
        shape=(3, 6, 6),
    ),
    Case(
        site="measured._pixels.keras",
        parts="b=nn.Conv2d(3, 4, 1)",
        torch="x = self.b(x)",
        keras='x = ops.flip(x, -1)\n<<pass>>\nx = layers.Conv2D(4, 1, name="b")(x)',
        shape=(3, 6, 6),
    ),
    Case(
        site="measured._pixels.keras",
        parts="b=nn.Conv2d(3, 4, 1)",
        torch="x = self.b(x)",
        keras='x = ops.flip(x, -1) * 2 - np.array([0.5, 0.25, 1], "float32")\n<<pass>>\n'
        'x = layers.Conv2D(4, 1, name="b")(x)',
        shape=(3, 6, 6),
    ),
    between("wiring._factor.keras", "x = x * 2.5", "<<pass>>"),
    between(
        "wiring._other_summand.fix",
        "y = torch.cos(x)\n<<x = x + torch.sin(y)>>",
        "y = ops.cos(x)\nx = y + ops.sin(y)",
        done="x = y + torch.sin(y)",
    ),
    between(
        "wiring._other_summand.keras",
        "x = x + torch.sin(torch.cos(x))",
        "y = ops.cos(x)\n<<x = y + ops.sin(y)>>",
        done="x = x + ops.sin(y)",
    ),
    between("wiring._divisor.keras", "x = x / (1.5 + torch.cos(x))", "divisor = 1.5 + ops.cos(x)\n<<pass>>"),
    between(
        "wiring._shortcut.keras",
        "x = self.c(x) + x",
        'second = x\nx = layers.Dense(4, name="c")(x)\n<<pass>>',
        "c=nn.Linear(4, 4)",
    ),
    between(
        "wiring._gate.keras",
        "x = x * torch.cos(x)",
        "scale = ops.cos(x)\n<<pass>>",
    ),
    between(
        "wiring._other_combination.fix",
        "first, second = x, self.c(x)\n<<x = first * second>>",
        'x = x + layers.Dense(4, name="c")(x)',
        "c=nn.Linear(4, 4)",
    ),
    between(
        "wiring._other_combination.keras",
        "x = x * self.c(x)",
        'first, second = x, layers.Dense(4, name="c")(x)\n<<x = first + second>>',
        "c=nn.Linear(4, 4)",
    ),
    between("wiring._missing_operation.keras", "x = x.clamp(-0.5, 0.5)", "<<pass>>"),
    between(
        "wiring._swapped_layers#2.keras",
        "x = torch.sigmoid(self.gate(x)) * self.up(x)",
        'gate, up = layers.Dense(4, name="gate")(x), layers.Dense(4, name="up")(x)\n'
        "<<pass>>\nx = ops.sigmoid(up) * gate",
        "gate=nn.Linear(4, 4), up=nn.Linear(4, 4)",
    ),
]

ORDERS = [
    between("shape._axis.fix", "x = torch.<<softmax(x, dim=1)>>", "x = ops.softmax(x, axis=-1)", shape=STEPS, dots="x"),
    between(
        "shape._axis.keras",
        "x = torch.softmax(x, dim=1)",
        "<<x = ops.softmax(x, axis=-1)>>",
        shape=STEPS,
    ),
    between("shape._axis.keras", "x = torch.softmax(x, 1)", "<<x = ops.softmax(x, axis=1)>>", shape=PICTURE),
    between(
        "shape._concatenation.fix",
        "parts = [x[:, :2], x[:, 2:]]\nx = <<torch.cat(parts, 1)>>",
        "x = ops.concatenate([x[:, 2:], x[:, :2]], 1)",
    ),
    between(
        "shape._concatenation.keras",
        "x = torch.cat([x[:, :2], x[:, 2:]], 1)",
        "parts = [x[:, 2:], x[:, :2]]\n<<pass>>\nx = ops.concatenate(parts, 1)",
    ),
    between(
        "shape._split.fix",
        "parts = x.chunk(2, -1)\n<<pass>>\nx = torch.cat([parts[0].tanh(), parts[1]], -1)",
        "parts = ops.split(x, 2, -1)\nx = ops.concatenate([ops.tanh(parts[1]), parts[0]], -1)",
    ),
    between(
        "shape._split.keras",
        "parts = x.chunk(2, -1)\nx = torch.cat([parts[0].tanh(), parts[1]], -1)",
        "parts = ops.split(x, 2, -1)\n<<pass>>\nx = ops.concatenate([ops.tanh(parts[1]), parts[0]], -1)",
    ),
    between("shape._selection.fix", "<<x = x[:, 0]>>", "x = x[:, -1]", shape=STEPS),
    between("shape._selection.keras", "x = x[:, 0]", "<<x = x[:, -1]>>", shape=STEPS),
    between(
        "shape._swapped_arguments.fix",
        "a, b = x.tanh(), self.c(x)\nx = <<torch.sub(a, b)>>",
        'x = layers.Dense(4, name="c")(x) - ops.tanh(x)',
        "c=nn.Linear(4, 4)",
    ),
    between(
        "shape._swapped_arguments.keras",
        "x = torch.sub(x.tanh(), self.c(x))",
        'first, second = layers.Dense(4, name="c")(x), ops.tanh(x)\n<<pass>>\nx = first - second',
        "c=nn.Linear(4, 4)",
    ),
    between("shape._other_reduction.fix", "<<x = x.mean(1)>>", "x = ops.sum(x, 1)", shape=STEPS),
    between("shape._other_reduction.keras", "x = x.mean(1)", "<<x = ops.sum(x, 1)>>", shape=STEPS, dots="1"),
    between("axes._rolled.fix", "<<x = torch.roll(x, 1, 1)>>", "x = ops.roll(x, -1, 1)", shape=STEPS, dots="1"),
    between(
        "axes._rolled.keras",
        "x = torch.roll(x, 1, 1)",
        "<<x = ops.roll(x, -1, 1)>>",
        shape=STEPS,
    ),
    between(
        "axes._tiled.keras",
        "x = x.repeat_interleave(2, 1)",
        "<<x = ops.concatenate([x, x], 1)>>",
        shape=STEPS,
    ),
    between(
        "axes._reshaped_instead_of_permuted.keras",
        "x = x.transpose(1, 2)",
        "<<pass>>",
        shape=(4, 4),
        dots="(0, 2, 1)",
    ),
    between(
        "axes._split.fix",
        "<<x = x.reshape(-1, 2, 2)>>\nx = x.tanh().amax(1)\nx = torch.cat([x, x], 1)",
        "x = ops.transpose(ops.reshape(x, (-1, 2, 2)), (0, 2, 1))\nx = ops.max(ops.tanh(x), 1)\n"
        "x = ops.concatenate([x, x], 1)",
    ),
    between(
        "axes._merged.fix",
        "x = x.unflatten(2, (2, 2))\nx = torch.tanh(x[:, :, :1] + x)\n<<pass>>\nx = x.flatten(2)",
        "x = ops.reshape(x, (-1, 5, 2, 2))\nx = ops.tanh(x[:, :, :1] + x)\n"
        "x = ops.reshape(ops.transpose(x, (0, 1, 3, 2)), (-1, 5, 4))",
        shape=STEPS,
    ),
]

CASES = [*ACTIVATIONS, *NORMS, *NUMBERS, *ORDERS]
