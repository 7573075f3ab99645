"""TensorFlow prints no log lines in a command, and keeps its oneDNN where it may compute."""

import os

import pytest

from keras3conv.cli.backend import quieten_tensorflow


@pytest.mark.parametrize("computes", [True, False])
def test_the_log_is_quiet_and_onednn_is_kept_where_tensorflow_computes(
    monkeypatch: pytest.MonkeyPatch, *, computes: bool
) -> None:
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    for name in ("TF_CPP_MIN_LOG_LEVEL", "TF_ENABLE_ONEDNN_OPTS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, "environ", {**os.environ})
    quieten_tensorflow(computes=computes)
    assert os.environ["TF_CPP_MIN_LOG_LEVEL"] == "3"
    assert ("TF_ENABLE_ONEDNN_OPTS" in os.environ) is not computes
