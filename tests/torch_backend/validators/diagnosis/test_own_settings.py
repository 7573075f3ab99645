"""An argument that differs between two layers of a rule of the user is the cause, not an operation inside of them."""

from collections.abc import Iterator
from typing import Any

import keras
import pytest
import torch
from keras import layers, ops
from torch import nn

import keras3conv as k3c
from tests.support.registered import keep_rules


class Clipped(nn.Module):
    def __init__(self, width: int, bound: float) -> None:
        super().__init__()
        self.width, self.bound = width, bound
        self.scale = nn.Parameter(torch.rand(width) + 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (x * self.scale).clamp(-self.bound, self.bound)


class Limited(layers.Layer):
    def __init__(self, limit: float, **options: Any) -> None:
        super().__init__(**options)
        self.limit = limit

    def build(self, shape: Any) -> None:
        self.scale = self.add_weight(name="scale", shape=(shape[-1],), initializer="ones")

    def call(self, x: Any) -> Any:
        return ops.clip(x * self.scale, -self.limit, self.limit)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "limit": self.limit}


KINDS = tuple(f"{cls.__module__}.{cls.__qualname__}" for cls in (Clipped, Limited))


@pytest.fixture(autouse=True)
def rule() -> Iterator[None]:
    take_back = keep_rules()
    same = k3c.WeightMapping(torch=("scale",), keras=("scale",), transform=k3c.transforms.Same())
    k3c.register(
        k3c.Rule(
            torch=KINDS[0],
            keras=KINDS[1],
            fields={"bound": "limit"},
            weights=lambda _: (same,),
            to_keras=lambda config: (k3c.LayerSpec(kind=KINDS[1], config={"limit": config["bound"]}),),
            to_torch=lambda specs: (
                k3c.LayerSpec(
                    kind=KINDS[0], config={"width": specs[0].shapes["scale"][0], "bound": specs[0].config["limit"]}
                ),
            ),
            examples=(k3c.Example(config={"width": 4, "bound": 0.5}, inputs=((3, 4),)),),
        )
    )
    yield
    take_back()


def report(limit: float) -> k3c.Report:
    module = nn.Sequential(nn.Linear(4, 4), Clipped(4, 0.25), nn.Linear(4, 2))
    given = keras.Input((4,))
    x = Limited(limit, name="limited")(layers.Dense(4, name="first")(given))
    model = keras.Model(given, layers.Dense(2, name="last")(x))
    plan = k3c.align(module, model, hints={"0": "first", "1": "limited", "2": "last"}, probe=False)
    k3c.transfer(module, model, plan, accept_difference=True)
    return k3c.validate(module, model, plan=plan, proofs=["float64"])


def test_the_argument_of_the_rule_is_the_cause() -> None:
    (problem, *_) = report(0.5).sections[-1].problems
    assert "bound is 0.25 in torch, limit is 0.5 in Keras" in problem.fact
    assert "clamp" not in problem.fact
    assert problem.fixes == ("bound=0.5  # torch: layer 1", "limit=0.25  # Keras: limited")


def test_equal_arguments_are_no_cause() -> None:
    assert report(0.25).ok
