"""Look up the date, the versions of the installed packages and the machine, without importing any package."""

import os
import platform
import sys
from datetime import UTC, datetime
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
"""For each package whose version is reported, the names of the distributions on PyPI that provide it."""


def current_environment() -> dict[str, str]:
    """Return the date, the versions of Python and of the installed packages, the platform and the processors.

    The date is the present one, unless the environment variable `SOURCE_DATE_EPOCH` (in seconds) sets it, as for
    reproducible builds. The Keras backend is reported only if Keras is already imported: importing Keras would fix the
    backend.
    """
    found = {"date": _now().strftime("%Y-%m-%d %H:%M UTC"), **installed_versions()}
    if "keras" in sys.modules:
        found["KERAS_BACKEND"] = str(sys.modules["keras"].backend.backend())
    found["platform"] = platform.platform()
    found["processors"] = str(os.cpu_count() or "unknown")
    return found


def installed_versions() -> dict[str, str]:
    """Return the versions of Python and of the installed packages: {"python": "3.11.7", "torch": "2.7.0"}."""
    versions = {package: _installed(distributions) for package, distributions in _DISTRIBUTIONS.items()}
    return {"python": platform.python_version(), **{name: number for name, number in versions.items() if number}}


def _now() -> datetime:
    seconds = os.environ.get("SOURCE_DATE_EPOCH", "")
    return datetime.fromtimestamp(int(seconds), UTC) if seconds.isdecimal() else datetime.now(UTC)


@cache
def _installed(distributions: tuple[str, ...]) -> str:
    for distribution in distributions:
        try:
            return version(distribution)
        except PackageNotFoundError:
            continue
    return ""
