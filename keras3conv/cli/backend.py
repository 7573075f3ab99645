"""Choose the Keras backend of a command, and what TensorFlow prints, without importing Keras."""

import json
import os
from importlib.util import find_spec
from pathlib import Path

from keras3conv.errors import InputError

BACKENDS = ("torch", "jax", "tensorflow")

_OTHERS = ("numpy", "openvino")
"""The backends of Keras on which no model is converted; Keras itself refuses what it cannot run on them."""


def backend_of_keras() -> tuple[str, str]:
    """Return the backend that Keras will use, and the source of this choice: ("jax", "KERAS_BACKEND").

    The source is the environment variable, the path of `keras.json`, or "the default of Keras". Keras is not imported.
    """
    if chosen := os.environ.get("KERAS_BACKEND"):
        return chosen, "KERAS_BACKEND"
    home = os.environ.get("KERAS_HOME")
    path = (Path(home) if home else Path.home() / ".keras") / "keras.json"
    try:
        configured = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        configured = {}
    if isinstance(configured, dict) and isinstance(configured.get("backend"), str):
        return configured["backend"], str(path)
    return "tensorflow", "the default of Keras"


def installed_backends() -> list[str]:
    """Return the backends of Keras whose packages are installed, without importing them."""
    return [name for name in BACKENDS if find_spec(name)]


def use_installed_backend() -> None:
    """Set `KERAS_BACKEND` to an installed backend if it is not set, and Keras would use one that is not installed.

    Keras' own default is tensorflow, which an environment for PyTorch rarely has.

    Raises:
        InputError: Keras has no backend of the chosen name.
    """
    chosen, chosen_by = backend_of_keras()
    if chosen not in (*BACKENDS, *_OTHERS):
        raise InputError(f"Keras has no backend {chosen!r}, which {chosen_by} names: choose {', '.join(BACKENDS)}")
    installed = installed_backends()
    if installed and chosen not in installed and chosen_by != "KERAS_BACKEND":
        os.environ["KERAS_BACKEND"] = installed[0]


def quieten_tensorflow(*, computes: bool) -> None:
    """Suppress the log lines of TensorFlow, which Keras imports on every backend even if it does not use it.

    TensorFlow's line about oneDNN is printed at every log level, so oneDNN is switched off; only TensorFlow itself uses
    it.

    Args:
        computes: Whether TensorFlow may compute in this command, with the oneDNN that the user has.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    if not computes and backend_of_keras()[0] != "tensorflow":
        os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
