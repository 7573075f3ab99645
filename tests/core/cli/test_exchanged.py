"""Two files of weights that are given in the other order, the Keras file first."""

from pathlib import Path

from tests.support.cli_runs import run
from tests.support.sweeps import write_checkpoint, write_keras_weights


def test_files_in_the_other_order_are_exchanged_and_a_line_says_so(tmp_path: Path) -> None:
    torch, keras = tmp_path / "small.safetensors", tmp_path / "model.h5"
    write_checkpoint(torch)
    write_keras_weights(keras)
    usual = run("align", torch, keras)
    exchanged = run("align", keras, torch)
    assert (exchanged.exit_code, exchanged.stdout) == (usual.exit_code, usual.stdout)
    assert f"in the other order: {torch} is the torch model, {keras} the Keras model" in exchanged.stderr
    assert "other order" not in usual.stderr
