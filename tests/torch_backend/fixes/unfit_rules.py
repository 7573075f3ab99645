"""Errors about rules of the user that fit no two layers, whose message prints the place of the rule."""

from pathlib import Path

import keras
from torch import nn

import keras3conv as k3c
from tests.support.fixes import Scope, case
from tests.support.registered import keep_rules
from tests.torch_backend.fixes.plans import NAMES
from tests.torch_backend.fixes.unknown_layers import KerasPeriodic, Periodic


def register(frequencies: str) -> None:
    """Register the rule of the two layers, with a name for the first parameter."""
    transpose = k3c.transforms.Axes("a b -> b a")
    mappings = tuple(
        k3c.WeightMapping(torch=(torch,), keras=(name,), transform=transpose)
        for torch, name in ((frequencies, "freq"), ("phase", "phase"))
    )
    torch, model = (f"{cls.__module__}.{cls.__qualname__}" for cls in (Periodic, KerasPeriodic))
    k3c.register(
        k3c.Rule(
            torch=torch,
            keras=model,
            fields={},
            weights=lambda _: mappings,
            to_keras=lambda _: (k3c.LayerSpec(kind=model, config={}),),
            to_torch=lambda _: (k3c.LayerSpec(kind=torch, config={}),),
            examples=(k3c.Example(config={}, inputs=((2, 3),)),),
        )
    )


def correct(line: str, names: Scope) -> str:
    """Return the line to paste, after the user has corrected the name in the rule."""
    names["undo"]()
    register("freq")
    return line


@case("keras3conv/alignment/unfit_rules.py:UnfitRule.problem", "plan.check()", only="k3c.align", edit=correct)
def a_rule_with_a_misspelled_name(_: Path) -> Scope:
    module, model = nn.Sequential(Periodic()), keras.Sequential([keras.Input((3,)), KerasPeriodic(name="num")])
    undo = keep_rules()
    register("frequency")
    return NAMES | {"torch": module, "keras": model, "plan": k3c.align(module, model, probe=False), "undo": undo}
