"""A message with many problems lists the first ones; with --verbose it lists all of them."""

from pathlib import Path
from string import ascii_lowercase

import keras
import pytest
import torch
from keras import layers

from tests.support.cli_runs import run


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    """Two files of weights without a common layer, one with 24 layers whose names no pattern collapses."""
    tensors = {f"{letter}.weight": torch.zeros(place + 2, 3) for place, letter in enumerate(ascii_lowercase[:24])}
    torch.save(tensors, tmp_path / "net.pt")
    keras.Sequential([keras.Input((40,)), layers.Dense(41)]).save_weights(tmp_path / "net.weights.h5")
    return [str(tmp_path / name) for name in ("net.pt", "net.weights.h5")]


def test_a_long_list_of_problems_is_cut_and_verbose_shows_it_whole(files: list[str], tmp_path: Path) -> None:
    short = run("transfer", *files, "-o", str(tmp_path / "new.weights.h5"))
    whole = run("transfer", *files, "-o", str(tmp_path / "new.weights.h5"), "--verbose")
    assert "more, which --verbose shows" in short.output
    assert "\n  x" not in short.output
    assert " more" not in whole.output
    assert "\n  x " in whole.output
