"""The command that a transfer without a complete plan suggests works as pasted, in every round."""

import re
import shlex
from pathlib import Path

import h5py
import numpy as np
import pytest
from safetensors.numpy import save_file
from typer.testing import CliRunner, Result

from keras3conv.cli.commands import app


def run(*arguments: str) -> Result:
    """Run the command line in this process and return its result."""
    return CliRunner().invoke(app, arguments)


def suggested(result: Result) -> str:
    """Return the first command that a message suggests, without the name of the program."""
    return re.findall(r"Fix:  keras3conv (.+?)(?: {5}or |\n)", result.stderr)[0]


def test_one_command_pairs_all_layers_of_equal_sizes_and_saves_a_new_plan(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    save_file({f"l{number}.gain": np.ones(4, np.float32) for number in range(4)}, "net.safetensors")
    with h5py.File("model.h5", "w") as file:
        file.attrs["layer_names"] = np.array([b"d0", b"d1", b"d2"])
        for name in ("d0", "d1", "d2"):
            file.create_group(name).attrs["weight_names"] = np.array([f"{name}/scale:0"], "S")
            file[name][f"{name}/scale:0"] = np.ones(4, np.float32)
    hints = "".join(f' --hint "l{number}.gain=d{number}/scale"' for number in range(3))
    Path("plan.json").write_text("a plan of another model")
    transfer = ("transfer", "net.safetensors", "model.h5", "--overwrite")
    line = suggested(run(*transfer))
    assert line == f"align net.safetensors model.h5 -o plan_2.json{hints}"
    assert run(*shlex.split(line)).exit_code == 1
    line = suggested(run(*transfer, "--plan", "plan_2.json"))
    assert line == f'align net.safetensors model.h5{hints.replace(chr(34), "")} -o new_plan_2.json --ignore "l3=reason"'
    assert run(*shlex.split(line)).exit_code == 0
    assert run(*transfer, "--plan", "new_plan_2.json").exit_code == 0
