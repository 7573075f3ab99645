"""Report what is installed, which Keras backend is chosen, and what each extra of the package would add."""

import platform
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

from keras3conv.cli.backend import backend_of_keras, installed_backends
from keras3conv.width import fitted_table


@dataclass(frozen=True)
class Extra:
    """An extra of the package: its name, what it is for, and the packages that it installs.

    Each package is a tuple of alternative names: `tensorflow` is the same code as `tensorflow-cpu`.
    """

    name: str
    purpose: str
    packages: tuple[tuple[str, ...], ...]


EXTRAS = (
    Extra("torch", "PyTorch modules", (("torch",),)),
    Extra("keras", "Keras models", (("keras", "keras-nightly"),)),
    Extra("jax", "the JAX backend of Keras", (("jax",),)),
    Extra(
        "tensorflow", "the TensorFlow backend", (("tensorflow", "tensorflow-cpu", "tensorflow-macos", "tf-nightly"),)
    ),
    Extra("report", "reports as HTML pages", (("jinja2",),)),
    Extra(
        "onnx",
        "validate --onnx, compare-onnx",
        (("onnx",), ("onnxruntime", "onnxruntime-gpu"), ("onnxscript",), ("tf2onnx",)),
    ),
    Extra("onnx-jax", "ONNX export on the JAX backend", (("jax2onnx",),)),
    Extra("demo", "keras3conv demo", (("scikit-learn",),)),
    Extra("ray", "conversions on several machines", (("ray",),)),
)


def facts() -> dict[str, object]:
    """Return the versions, the backend of Keras and the extras as data, for `doctor --json`."""
    extras = {}
    for extra in EXTRAS:
        found = {names[0]: _version(names) for names in extra.packages}
        extras[extra.name] = {"for": extra.purpose, "packages": found, "installed": all(found.values())}
    backend, chosen_by = backend_of_keras()
    return {
        "keras3conv": _version(("keras3conv",)),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "backend": backend,
        "backend chosen by": chosen_by,
        "backends installed": installed_backends(),
        "extras": extras,
    }


def text() -> str:
    """Return the versions, the backend of Keras and the extras as text; its last lines are commands to try."""
    known = facts()
    extras = known.pop("extras")
    assert isinstance(extras, dict)
    listed = {name: ", ".join(value) if isinstance(value, list) else value for name, value in known.items()}
    lines = [f"{name:<20}{value or 'none'}" for name, value in listed.items()]
    rows = [
        (name, "yes" if extra["installed"] else "no", _packages(extra["packages"]), extra["for"])
        for name, extra in extras.items()
    ]
    lines += ["", *fitted_table(("extra", "here", "packages", "for"), rows).lines]
    return "\n".join([*lines, "", *_advice(known, [name for name, extra in extras.items() if not extra["installed"]])])


def _advice(known: dict[str, object], missing: list[str]) -> list[str]:
    lines = []
    installed = known["backends installed"]
    assert isinstance(installed, list)
    if installed and known["backend"] not in installed:
        others = (
            "" if known["backend chosen by"] == "KERAS_BACKEND" else f" (the commands of keras3conv use {installed[0]})"
        )
        lines.append(
            f"Keras would use {known['backend']}, which is not installed{others}:  export KERAS_BACKEND={installed[0]}"
        )
    if missing:
        lines.append(f'To add what is missing:  pip install "keras3conv[{",".join(missing)}]"')
    return lines or ["Everything is installed."]


def _packages(versions: dict[str, str]) -> str:
    return ", ".join(f"{name} {number or '(missing)'}" for name, number in versions.items())


def _version(distributions: tuple[str, ...]) -> str:
    """Return the version of a package that has several names (`tensorflow`, `tensorflow-cpu`); "" if not installed.

    Args:
        distributions: The names; the first one that is installed counts.
    """
    for name in distributions:
        try:
            return version(name)
        except PackageNotFoundError:
            continue
    return ""
