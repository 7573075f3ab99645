"""Errors about layers of classes that no rule knows, whose message prints a line that registers a rule."""

from pathlib import Path
from typing import Any

import keras
import torch
from keras import layers
from torch import nn

import keras3conv as k3c
from tests.support.fixes import Scope, case
from tests.support.registered import keep_rules
from tests.torch_backend.fixes.plans import NAMES


class Periodic(nn.Module):
    """Frequencies and phases of each feature; the Keras layer has the axes of both in the other order."""

    def __init__(self) -> None:
        super().__init__()
        self.freq, self.phase = nn.Parameter(torch.rand(3, 5)), nn.Parameter(torch.rand(3, 4))


class KerasPeriodic(layers.Layer):
    def build(self, _: Any) -> None:
        self.freq = self.add_weight(shape=(5, 3), name="freq")
        self.phase = self.add_weight(shape=(4, 3), name="phase")

    def call(self, inputs: Any) -> Any:
        return inputs + keras.ops.sum(self.freq, 0) + keras.ops.sum(self.phase, 0)


def weights_of_own_layers(folder: Path) -> Scope:
    """Two files of weights: their layer `num` is of classes that no rule knows."""
    module, model = nn.Sequential(), keras.Sequential([keras.Input((3,)), KerasPeriodic(name="num")])
    module.add_module("num", Periodic())
    torch.save(module.state_dict(), folder / "net.pt")
    model.save_weights(folder / "net.weights.h5")
    undo = keep_rules()
    axes = {name: k3c.transforms.Axes("a b -> b a") for name in ("freq", "phase")}
    mappings = tuple(
        k3c.WeightMapping(torch=(name,), keras=(name,), transform=transform) for name, transform in axes.items()
    )
    rule = k3c.Rule(
        torch=f"{__name__}.Periodic",
        keras=f"{__name__}.KerasPeriodic",
        fields={},
        weights=lambda _: mappings,
        to_keras=lambda _: (k3c.LayerSpec(kind=f"{__name__}.KerasPeriodic", config={}),),
        to_torch=lambda _: (k3c.LayerSpec(kind=f"{__name__}.Periodic", config={}),),
        examples=(k3c.Example(config={}, inputs=((2, 3),)),),
    )
    return NAMES | {"plan": k3c.align("net.pt", "net.weights.h5"), "RULE": rule, "undo": undo}


@case(
    "keras3conv/alignment/problems.py:_unplaced_layer",
    "plan.check()",
    then='k3c.align("net.pt", "net.weights.h5").check()',
    only="k3c.register",
)
def files_with_a_layer_that_no_rule_knows(folder: Path) -> Scope:
    return weights_of_own_layers(folder)


@case(
    "keras3conv/alignment/by_hand.py:pair_by_hand",
    'k3c.align("net.pt", "net.weights.h5", hints={"num": "num"})',
    only="k3c.register",
)
def a_hint_for_a_layer_that_no_rule_knows(folder: Path) -> Scope:
    return weights_of_own_layers(folder)


@case(
    "keras3conv/alignment/by_hand.py:_pair_named_tensors",
    'plan.pair("num.freq", "num/0")',
    then='k3c.align("net.pt", "net.weights.h5").check()',
    only="k3c.register",
)
def a_tensor_of_a_layer_that_no_rule_knows(folder: Path) -> Scope:
    return weights_of_own_layers(folder)
