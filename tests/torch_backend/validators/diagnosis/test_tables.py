"""The diagnosis names an embedding table that only torch has."""

import keras
import torch
from keras import layers
from torch import nn

import keras3conv as k3c
from tests.support.models import randomize


class Typed(nn.Module):
    """Adds the row of the first type to every token."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens, self.types = nn.Embedding(9, 6), nn.Embedding(2, 6)
        self.norm, self.head = nn.LayerNorm(6, eps=1e-3), nn.Linear(6, 4)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.head(self.norm(self.tokens(tokens) + self.types(torch.zeros_like(tokens))))


def test_a_table_missing_in_keras_is_named() -> None:
    inputs = keras.Input((5,), dtype="int32")
    x = layers.LayerNormalization(epsilon=1e-3, name="norm")(layers.Embedding(9, 6, name="tokens")(inputs))
    model = keras.Model(inputs, layers.Dense(4, name="head")(x))
    module = Typed()
    randomize(module)
    given = torch.randint(0, 9, (2, 5), generator=torch.Generator().manual_seed(0))
    plan = k3c.align(module, model, inputs=given).ignore("types", "Keras has none", side="torch")
    plan = plan.accepting_difference().check()
    k3c.transfer(module, model, plan)
    report = k3c.validate(module, model, inputs=given, alignment=plan, proofs=("float64",))
    problem = report.section("float64").problems[0]
    assert problem.torch == "norm"
    assert "Keras does not add the embedding table types" in problem.fact
    assert problem.fixes == ("x = x + keras.layers.Embedding(2, 6)(indices)  # Keras: before norm",)
