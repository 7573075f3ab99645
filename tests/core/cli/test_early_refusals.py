"""Options with a wrong value are refused before a framework is imported, which takes many seconds."""

import subprocess
import sys
from pathlib import Path

import pytest

RUN = """
import sys

from keras3conv.cli.commands import app

try:
    app(sys.argv[1:])
finally:
    print("imported", sorted({"torch", "keras", "tensorflow", "jax"} & set(sys.modules)))
"""

CASES = {
    ("convert", "nets.py:net", "--shape", "2x6", "-o", "out"): "--shape 2x6 is not a shape",
    ("convert", "nets.py:net", "--dynamic", "x", "-o", "out"): "--dynamic x does not have the form",
    ("validate", "nets.py:net", "net.keras", "--report", "r.pdf"): "r.pdf has a suffix that no report has",
    ("validate", "nets.py:net", "net.keras", "--tolerance", "small"): "--tolerance small must be two numbers",
    ("align", "nets.py:net", "net.keras", "--hint", "fc"): "--hint fc has the wrong form",
    ("sweep", "sweep.toml", "-o", "results"): "timelimit is not a key; did you mean time_limit?",
}


@pytest.mark.slow
@pytest.mark.parametrize("arguments", CASES, ids=lambda arguments: f"{arguments[0]} {arguments[-2]}")
def test_a_wrong_option_is_refused_without_importing_a_framework(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    (tmp_path / "nets.py").write_text("import torch\n\n\ndef net():\n    return torch.nn.Linear(2, 2)\n")
    (tmp_path / "sweep.toml").write_text('[[task]]\nname = "a"\nmodel = "nets.py:net"\ntimelimit = 3\n')
    finished = subprocess.run(
        [sys.executable, "-c", RUN, *arguments], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert finished.returncode == 2, finished.stderr
    assert CASES[arguments] in " ".join(finished.stderr.split())
    assert finished.stdout.splitlines()[-1] == "imported []"
