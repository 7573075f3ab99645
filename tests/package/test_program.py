"""The program in a new process: its imports, its output and its exit status."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from keras3conv import __version__

ROOT = Path(__file__).resolve().parents[2]

HEAVY = ("torch", "keras", "jax", "tensorflow")


def python(*arguments: str) -> str:
    """Return the output of a new interpreter that imports this checkout."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    finished = subprocess.run(
        [sys.executable, *arguments], env=environment, capture_output=True, text=True, check=False
    )
    assert finished.returncode == 0, finished.stdout + finished.stderr
    return finished.stdout


def test_importing_the_package_imports_no_other_package_but_numpy() -> None:
    imported = python("-c", "import sys, keras3conv; print(*{name.partition('.')[0] for name in sys.modules})").split()
    known = {*sys.stdlib_module_names, "numpy", "keras3conv", "__main__", "__mp_main__"}
    at_start = python("-c", "import sys; print(*{name.partition('.')[0] for name in sys.modules})").split()
    assert {*imported} - {*at_start} <= known


def in_a_process(*arguments: str | Path, then: str = "") -> subprocess.CompletedProcess[str]:
    """Run the command line in a new interpreter, then one more line of code."""
    code = (
        "import sys\nfrom keras3conv.cli.commands import main\n"
        f"sys.argv = {['keras3conv', *map(str, arguments)]!r}\n"
        f"try:\n    main()\nexcept SystemExit as stop:\n    status = stop.code\n{then}\nsys.exit(status)"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)


def modules_loaded_by(*arguments: str | Path) -> set[str]:
    finished = in_a_process(*arguments, then="print('\\nMODULES', *sys.modules)")
    assert finished.returncode == 0, finished.stderr
    return set(finished.stdout.partition("\nMODULES")[2].split())


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """Save a torch checkpoint of two blocks and a head."""
    path = tmp_path / "net.safetensors"
    generator = np.random.default_rng(0)
    tensors = {
        "fc.weight": (2, 5),
        "fc.bias": (2,),
        **{f"blocks.{place}.weight": (7 + place, 6 + place) for place in range(2)},
        **{f"twins.{place}.weight": (3, 3) for place in range(4)},
    }
    save_file({name: generator.standard_normal(shape, dtype=np.float32) for name, shape in tensors.items()}, path)
    return path


def test_the_help_imports_no_framework() -> None:
    assert modules_loaded_by("--help").isdisjoint({*HEAVY, "h5py", "numpy", "rich"})


def test_the_rules_are_listed_without_a_framework() -> None:
    assert modules_loaded_by("rules").isdisjoint({*HEAVY, "h5py"})


def test_a_file_is_inspected_without_a_framework(checkpoint: Path) -> None:
    assert modules_loaded_by("inspect", checkpoint).isdisjoint(HEAVY)


def test_the_module_can_be_run() -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "keras3conv", "--version"]
    finished = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert finished.stdout == f"keras3conv {__version__}\n"


def test_the_traceback_is_shown_only_when_asked(tmp_path: Path) -> None:
    missing = tmp_path / "none.safetensors"
    assert "Traceback" not in in_a_process("inspect", missing).stderr
    finished = in_a_process("inspect", missing, "--debug")
    assert finished.returncode == 2
    assert "Traceback" in finished.stderr


def test_an_interrupt_ends_the_program_with_one_word(tmp_path: Path) -> None:
    path = tmp_path / "slow.py"
    path.write_text(
        "import time\n\n\ndef make():\n    print('started', flush=True)\n    while True:\n        time.sleep(60)\n"
    )
    command = [sys.executable, "-m", "keras3conv", "inspect", f"{path}:make"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    # A shell has what it starts in the background ignore interrupts, and whatever is started by that inherits it.
    heard = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        started = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    finally:
        signal.signal(signal.SIGINT, heard)
    with started as process:
        assert process.stderr is not None
        assert process.stderr.readline() == "started\n"
        process.send_signal(signal.SIGINT)
        stdout, stderr = process.communicate()
    assert (process.returncode, stdout, stderr) == (130, "", "Interrupted\n")


def test_a_character_that_the_terminal_cannot_encode_is_escaped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "net.safetensors"
    save_file({"größe.weight": np.ones((2, 2), np.float32)}, path)
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")
    finished = in_a_process("inspect", path)
    assert finished.returncode == 0, finished.stderr
    assert r"gr\xf6\xdfe" in finished.stdout


def test_a_closed_pipe_does_not_give_the_exit_status_of_a_failed_proof() -> None:
    command = [sys.executable, "-m", "keras3conv", "rules"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as program:
        assert program.stdout is not None
        assert program.stderr is not None
        program.stdout.close()
        said = program.stderr.read()
    assert (program.returncode, said) == (141, b"")
