"""The diagnosis names padded steps that Keras masks and torch does not, and prints a line for each framework."""

from collections.abc import Callable
from typing import Any

import keras
import pytest
import torch
from keras import layers
from torch import nn

import keras3conv as k3c
from tests.support.models import randomize

WORDS, WIDTH, STEPS = 9, 4, 7


class Net(nn.Module):
    """Embeds words, and gives them to one layer."""

    def __init__(self, read: Callable[[Any, Any], Any], layer: nn.Module | None = None, width: int = WIDTH) -> None:
        super().__init__()
        self.table, self.head = nn.Embedding(WORDS, WIDTH), nn.Linear(width, 3)
        self.layer, self.read = layer, read

    def forward(self, indices: torch.Tensor) -> torch.Tensor:
        made: torch.Tensor = self.head(self.read(self.layer, self.table(indices)))
        return made


def model(*middle: layers.Layer) -> keras.Model:
    table = layers.Embedding(WORDS, WIDTH, mask_zero=True, name="table")
    return keras.Sequential([keras.Input((STEPS,), dtype="int32"), table, *middle, layers.Dense(3, name="head")])


class SelfAttention(layers.Layer):
    """Attends to its own input; Keras passes the mask on."""

    def __init__(self) -> None:
        super().__init__(name="attention")
        self.attention = layers.MultiHeadAttention(2, 2)
        self.supports_masking = True

    def build(self, shape: Any) -> None:
        self.attention.build(shape, shape)

    def call(self, x: Any) -> Any:
        return self.attention(x, x)


def first(module: nn.Module, keras_model: keras.Model, *, to: str) -> tuple[k3c.Report, Any]:
    plan = k3c.align(randomize(module), keras_model)
    source, target = (module, keras_model) if to == "keras" else (keras_model, module)
    k3c.transfer(source, target, plan, accept_difference=True)
    report = k3c.validate(module, keras_model, alignment=plan, proofs=("hyperparameters", "float64"))
    return report, report.section("float64").problems[0]


LSTM = nn.LSTM(WIDTH, 5, batch_first=True)
CASES = [
    (
        lambda: (Net(lambda _, x: x.mean(1)), model(layers.GlobalAveragePooling1D(name="pool"))),
        "Keras leaves the steps that are masked as padding in pool out of the mean, torch does not",
    ),
    (
        lambda: (Net(lambda layer, x: layer(x)[0][:, -1], LSTM, 5), model(layers.LSTM(5, name="lstm"))),
        "Keras skips the steps that are masked as padding in lstm, and repeats its output there; torch does not",
    ),
    (
        lambda: (
            Net(lambda layer, x: layer(x)[0], nn.GRU(WIDTH, 5, batch_first=True, bidirectional=True), 10),
            model(layers.Bidirectional(layers.GRU(5, return_sequences=True), name="both")),
        ),
        "Keras skips the steps that are masked as padding in both, and returns zeros there; torch does not",
    ),
    (
        lambda: (
            Net(lambda layer, x: layer(x, x, x)[0], nn.MultiheadAttention(WIDTH, 2, batch_first=True)),
            model(SelfAttention()),
        ),
        "attention in Keras ignores the steps that are masked as padding in",
    ),
]


@pytest.mark.parametrize(("make", "cause"), CASES, ids=["mean", "LSTM", "bidirectional", "attention"])
def test_a_mask_that_only_keras_has_is_the_cause(make: Callable[[], tuple[nn.Module, keras.Model]], cause: str) -> None:
    report, problem = first(*make(), to="keras")
    assert cause in problem.fact
    assert problem.fixes[-1] == "mask_zero=False  # Keras: table"
    assert report.section("hyperparameters").status == "passed"  # no field of a layer is to blame


def test_the_line_for_torch_comes_first_also_if_the_transfer_wrote_keras() -> None:
    for to in ("keras", "torch"):
        module, keras_model = CASES[0][0]()
        in_torch, in_keras = first(module, keras_model, to=to)[1].fixes
        assert in_torch.startswith("x = (x * mask.unsqueeze(-1)).sum(1) / mask.sum(1")
        assert in_keras == "mask_zero=False  # Keras: table"


def test_the_printed_line_for_torch_makes_the_models_agree() -> None:
    module, keras_model = CASES[0][0]()
    _, problem = first(module, keras_model, to="torch")
    line = problem.fixes[0].partition("  #")[0]

    class Fixed(Net):
        def forward(self, indices: torch.Tensor) -> torch.Tensor:
            names = {"x": self.table(indices), "mask": indices != 0}
            exec(line, {}, names)  # noqa: S102 - the line that the report prints
            made: torch.Tensor = self.head(names["x"])
            return made

    fixed = Fixed(lambda _, x: x)
    fixed.load_state_dict(module.state_dict())
    assert k3c.validate(fixed, keras_model).ok


class OwnMask(nn.Module):
    """Leaves out the padding itself. A convolution of Keras has lost the mask at this place."""

    def __init__(self, read: Callable[[Any, Any], Any]) -> None:
        super().__init__()
        self.table, self.conv, self.head = (
            nn.Embedding(WORDS, WIDTH),
            nn.Conv1d(WIDTH, 5, 3, padding=1),
            nn.Linear(5, 3),
        )
        self.read = read

    def forward(self, indices: torch.Tensor) -> torch.Tensor:
        x = self.conv(self.table(indices).transpose(1, 2)).transpose(1, 2)
        made: torch.Tensor = self.head(self.read(x, (indices != 0).unsqueeze(-1)))
        return made


@pytest.mark.filterwarnings("ignore:Layer .conv. .of type Conv1D. was passed an input with a mask")
@pytest.mark.parametrize(
    ("read", "cause"),
    [
        (
            lambda x, mask: (x * mask).sum(1) / mask.sum(1),
            "torch masks steps by ne(x, 0) before head, Keras masks none",
        ),
        (
            lambda x, mask: x.masked_fill(~mask, 0.0).mean(1),
            "torch masks steps by ne(x, 0) before head, Keras masks none",
        ),
        (lambda x, _: x.max(1).values, "torch takes the maximum over 1, Keras the mean"),
    ],
    ids=["mean", "filled", "maximum"],
)
def test_a_mask_that_only_torch_has_is_the_cause(read: Callable[[Any, Any], Any], cause: str) -> None:
    convolution = layers.Conv1D(5, 3, padding="same", name="conv")
    _, problem = first(OwnMask(read), model(convolution, layers.GlobalAveragePooling1D(name="pool")), to="keras")
    assert cause in problem.fact
    if "masks" in cause:
        assert problem.fixes[-1] == "mask = keras.ops.not_equal(x, 0)  # Keras: before head, to mask what torch masks"
