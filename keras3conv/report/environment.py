"""Where a report was made: versions and machine, without importing what is looked up."""

import os
import platform
import sys
from functools import cache
from importlib.metadata import PackageNotFoundError, version

_DISTRIBUTIONS: dict[str, tuple[str, ...]] = {
    "keras3conv": ("keras3conv",),
    "numpy": ("numpy",),
    "torch": ("torch",),
    "keras": ("keras", "keras-nightly"),
    "jax": ("jax",),
    "tensorflow": ("tensorflow", "tensorflow-cpu", "tensorflow-macos", "tf-nightly"),
    "onnx": ("onnx",),
    "onnxruntime": ("onnxruntime", "onnxruntime-gpu"),
}
"""Packages worth naming, each with the distributions that may bring it."""


def current_environment() -> dict[str, str]:
    """The versions of python and of what is installed, the platform, the number of processors.

    The Keras backend is named only if Keras is loaded already: asking would load it, and loading it chooses one.
    """
    found = {"python": platform.python_version()}
    for package, distributions in _DISTRIBUTIONS.items():
        if number := _installed(distributions):
            found[package] = number
    if "keras" in sys.modules:
        found["KERAS_BACKEND"] = str(sys.modules["keras"].backend.backend())
    found["platform"] = platform.platform()
    found["processors"] = str(os.cpu_count() or "unknown")
    return found


@cache
def _installed(distributions: tuple[str, ...]) -> str:
    for distribution in distributions:
        try:
            return version(distribution)
        except PackageNotFoundError:
            continue
    return ""
