"""Errors about plans that were saved as JSON."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras3conv as k3c
from tests.support.fixes import Scope, case
from tests.torch_backend.fixes.plans import NAMES, Net, network


def changed_plan(change: Callable[[dict[str, Any]], None]) -> Scope:
    """Return two models, and their plan as JSON with a change."""
    module, model = Net(), network()
    data = json.loads(k3c.align(module, model, probe=False).to_json())
    change(data)
    return NAMES | {"module": module, "model": model, "text": json.dumps(data)}


FOR_BOTH: dict[str, Any] = {
    "then": "k3c.transfer(module, model, plan)",
    "edit": lambda line, names: line.replace("torch, keras", "module, model"),
}


@case("keras3conv/alignment/json.py:load", "k3c.Alignment.from_json(text)", **FOR_BOTH)
def a_plan_of_another_format(_: Path) -> Scope:
    return changed_plan(lambda data: data.update(format=999))


@case("keras3conv/alignment/json.py:_load_view", "k3c.Alignment.from_json(text)", **FOR_BOTH)
def a_plan_whose_names_were_changed(_: Path) -> Scope:
    return changed_plan(lambda data: data["torch"].update(fingerprint="0"))
