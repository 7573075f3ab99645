"""Write the command that compares two models after a transfer between them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from shlex import quote

from keras3conv.frameworks.adapter import Adapter
from keras3conv.model.views import Side

_WITHOUT_ARCHITECTURE = (".weights.h5", ".weights.json", ".index")


def is_without_architecture(file: str) -> bool:
    """Return True if the suffix of a file is that of Keras files with weights, but without an architecture."""
    return file.lower().endswith(_WITHOUT_ARCHITECTURE)


def validation(
    source: tuple[str, Adapter], target: tuple[str, Adapter], out: Sequence[Path], given: Mapping[Side, Path | None]
) -> str:
    """Return the command that compares the two models of a transfer: "keras3conv validate net.py:make net.keras".

    The word FACTORY stands in it for a model of which the transfer knows only a file of weights.

    Args:
        source: The argument and the adapter of the model that was read.
        target: The argument and the adapter of the model that was written.
        out: The files that were written; if there are none, the target is the file.
        given: For each side, the file of weights that was loaded into the model of a factory.
    """
    models, options = _named(source, target, tuple(out), given)
    return f"keras3conv validate {quote(models['torch'])} {quote(models['keras'])}{options}"


def probed(
    source: tuple[str, Adapter], target: tuple[str, Adapter], out: Sequence[Path], given: Mapping[Side, Path | None]
) -> str:
    """Return the command that repeats a transfer between two models that run, so that the probe confirms the pairs.

    It is empty if both models ran already, or if no file was written. The word FACTORY stands in it for a model of
    which the transfer knows only a file of weights.

    Args:
        source: The argument and the adapter of the model that was read.
        target: The argument and the adapter of the model that was written.
        out: The files that were written.
        given: For each side, the file of weights that was loaded into the model of a factory.
    """
    models, options = _named(source, target, (), given)
    if not out or "FACTORY" not in models.values():
        return ""
    names = f"{quote(models[source[1].side])} {quote(models[target[1].side])}"
    files = "".join(f" -o {quote(str(path))}" for path in out)
    return f"keras3conv transfer {names}{options}{files} --overwrite"


def _named(
    source: tuple[str, Adapter],
    target: tuple[str, Adapter],
    out: tuple[Path, ...],
    given: Mapping[Side, Path | None],
) -> tuple[dict[Side, str], str]:
    """Return the argument of the model of each side, and the options with their weights."""
    models: dict[Side, str] = {}
    weights: dict[Side, str] = {}
    for (argument, model), written in ((source, ()), (target, out)):
        loaded = str(given[model.side] or "") if model.is_live else argument
        file = str(written[0]) if written else loaded
        if model.side == "keras" and file and not is_without_architecture(file):
            models["keras"] = file
            continue
        models[model.side] = argument if model.is_live else "FACTORY"
        weights[model.side] = f" --{model.side}-weights {quote(file)}" if file else ""
    return models, "".join(weights.get(side, "") for side in ("torch", "keras"))


__all__ = ["is_without_architecture", "probed", "validation"]
