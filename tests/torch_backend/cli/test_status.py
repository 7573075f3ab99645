"""The exit status of commands whose models differ, and the weights that were compared."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from tests.support.cli_runs import run


@pytest.mark.parametrize("as_json", [(), ("--json",)])
def test_align_fails_if_the_outputs_differ(models: Path, tmp_path: Path, as_json: tuple[str, ...]) -> None:
    inputs, plan = tmp_path / "x.npz", tmp_path / "plan.json"
    np.savez(inputs, np.random.default_rng(0).normal(size=(4, 5)).astype("float32"))
    result = run("align", f"{models}:wrong", f"{models}:make_keras", "--inputs", inputs, "-o", plan, *as_json)
    assert result.exit_code == 1
    assert "outputs differ" in result.stdout
    assert json.loads(plan.read_text())["difference"]


def test_the_summary_says_whose_weights_were_loaded(
    models: Path, keras_file: Path, moved: Path, tmp_path: Path
) -> None:
    weights = load_file(moved)
    two = tmp_path / "two.pt"
    torch.save({"model": {name: 2 * tensor for name, tensor in weights.items()}, "ema": weights}, two)
    proofs = ("--proof", "structure", "--proof", "roundtrip")
    for entry, status in (("ema", 0), ("model", 1)):
        sides = (f"{models}:make", keras_file, "--torch-weights", two, "--entry", entry)
        judged = run("validate", *sides, *proofs)
        assert judged.exit_code == status, judged.output
        assert f"weights of torch: two.pt, state dict {entry}" in judged.stdout
    assert "weights of torch" not in run("validate", f"{models}:make", keras_file, *proofs).stdout
