"""The exit status of commands whose models differ."""

import json
from pathlib import Path

import numpy as np
import pytest

from tests.support.cli_runs import run


@pytest.mark.parametrize("as_json", [(), ("--json",)])
def test_align_fails_if_the_outputs_differ(models: Path, tmp_path: Path, as_json: tuple[str, ...]) -> None:
    inputs, plan = tmp_path / "x.npz", tmp_path / "plan.json"
    np.savez(inputs, np.random.default_rng(0).normal(size=(4, 5)).astype("float32"))
    result = run("align", f"{models}:wrong", f"{models}:make_keras", "--inputs", inputs, "-o", plan, *as_json)
    assert result.exit_code == 1
    assert "outputs differ" in result.stdout
    assert json.loads(plan.read_text())["difference"]
