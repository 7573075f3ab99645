"""Write the command that compares two models after a transfer between them."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING

from keras3conv.cli.imported import import_options
from keras3conv.errors import listed

if TYPE_CHECKING:
    from keras3conv.alignment.plan import Alignment
    from keras3conv.frameworks.adapter import Adapter
    from keras3conv.model.views import Side
    from keras3conv.report.report import Report

FACTORIES: "Mapping[Side, str]" = {"torch": "TORCH.py:make", "keras": "KERAS.py:make"}
"""The placeholder for the factory of each side in a command whose other words are known."""

_WITHOUT_ARCHITECTURE = (".weights.h5", ".weights.json", ".index")


def is_without_architecture(file: str) -> bool:
    """Return True if the suffix of a file is that of Keras files with weights, but without an architecture."""
    return file.lower().endswith(_WITHOUT_ARCHITECTURE)


def _has_architecture(file: str) -> bool:
    """Return whether a Keras file has an architecture; an `.h5` file is read, as Keras 2 used this suffix for both."""
    if is_without_architecture(file):
        return False
    if not file.lower().endswith((".h5", ".hdf5")):
        return True
    from keras3conv import formats

    return any(layer.config for layer in formats.read(Path(file)).layers)


def validation(
    source: "tuple[str, Adapter]",
    target: "tuple[str, Adapter]",
    out: Sequence[Path],
    weights: "Mapping[Side, Path | None]",
) -> str:
    """Return the command that compares the two models of a transfer: "keras3conv validate net.py:make net.keras".

    The command has the placeholder TORCH.py:make or KERAS.py:make if the transfer knows only a file of weights.

    Args:
        source: The argument of the model that was read, and its adapter (the interface to a model).
        target: The argument of the model that was written, and its adapter (the interface to a model).
        out: The files that were written; if there are none, the target is the file.
        weights: For each side, the file of weights that was loaded into the model of a factory.
    """
    models, options = _named(source, target, tuple(out), weights)
    return f"keras3conv validate {quote(models['torch'])} {quote(models['keras'])}{options}"


def probed(
    source: "tuple[str, Adapter]",
    target: "tuple[str, Adapter]",
    out: Sequence[Path],
    weights: "Mapping[Side, Path | None]",
) -> str:
    """Return the command that repeats a transfer with two live models, which can be run to confirm the pairs.

    The result is empty if both models ran already, or if no file was written. The command has the placeholder
    TORCH.py:make or KERAS.py:make for a model of which the transfer knows only a file of weights.

    Args:
        source: The argument of the model that was read, and its adapter (the interface to a model).
        target: The argument of the model that was written, and its adapter (the interface to a model).
        out: The files that were written.
        weights: For each side, the file of weights that was loaded into the model of a factory.
    """
    models, options = _named(source, target, (), weights)
    if not out or not {*FACTORIES.values()}.intersection(models.values()):
        return ""
    names = f"{quote(models[source[1].side])} {quote(models[target[1].side])}"
    files = "".join(f" -o {quote(str(path))}" for path in out)
    return f"keras3conv transfer {names}{options}{files} --overwrite"


def after_transfer(
    report: "Report",
    plan: "Alignment",
    arguments: tuple[str, str],
    adapters: "tuple[Adapter, Adapter]",
    out: Sequence[Path],
    weights: tuple[Path | None, Path | None],
    entry: str,
) -> Iterator[str]:
    """Yield the lines that end a transfer: they name the commands that confirm its pairs and compare the outputs.

    Args:
        report: The report of the transfer.
        plan: The plan that was followed.
        arguments: The arguments of the source and of the target.
        adapters: The adapters (the interface to a model) of the source and of the target.
        out: The files that were written.
        weights: The files of weights that were loaded into the torch and the Keras model of a factory.
        entry: The option for the state dict that was read, " --entry ema"; may be empty.
    """
    source, target = zip(arguments, adapters, strict=True)
    given: dict[Side, Path | None] = {"torch": weights[0], "keras": weights[1]}
    if report.status == "unconfirmed" and (again := probed(source, target, out, given)):
        yield f"a transfer between two models that run confirms the pairs:  {again}{entry}"
    if report.status == "unconfirmed":
        yield from _reordering(plan, source, target, out)
    compared_by = validation(source, target, out, given)
    if known := plan.accepted_difference or plan.difference:
        purpose = f"{known}; the command that names the cause"
    elif any(pair.decided_by == "probe" for pair in plan.pairs):
        purpose = "the plan compared them with random weights, not with these; to compare the outputs of both models"
    else:
        purpose = "no output was compared; to compare the outputs of both models"
    yield f"{purpose}:  {compared_by}{entry}"
    yield from _placeholders(compared_by)
    yield from _new_weights(source, given)
    yield from _code_to_load(target[1], out)


def _reordering(
    plan: "Alignment", source: "tuple[str, Adapter]", target: "tuple[str, Adapter]", out: Sequence[Path]
) -> Iterator[str]:
    """Yield a program that transfers with the rows of a layer in another order, if the order of rows is unknown.

    Args:
        plan: The plan that was followed.
        source: The argument of the model that was read, and its adapter (the interface to a model).
        target: The argument of the model that was written, and its adapter (the interface to a model).
        out: The files that were written.
    """
    from keras3conv.alignment.text import other_orders
    from keras3conv.workflows.factories import factory_of

    lines: list[str] = []
    for pair in plan.unconfirmed:
        first, *others = other_orders([pair]) or ("",)
        if first and first not in lines:
            lines += [first, *(f"# or  {line}" for line in others)]
    if not lines:
        return
    program, values = ["import keras3conv as k3c"], {}
    for argument, model in (source, target):
        values[model.side] = json.dumps(argument)
        if factory := factory_of(argument):
            where = Path(factory[0])
            values[model.side] = {"torch": "module", "keras": "model"}[model.side]
            if where.parent != Path():
                program += ["import sys", f"sys.path.insert(0, {json.dumps(str(where.parent))})"]
            program.append(f"from {where.name.removesuffix('.py')} import {factory[1]}")
            program.append(f"{values[model.side]} = {factory[1]}()")
    written = f", out={json.dumps(str(out[0]))}, overwrite=True" if out else ", overwrite=True"
    program += [f"plan = k3c.align({values['torch']}, {values['keras']})", *lines]
    program.append(f"k3c.transfer({values[source[1].side]}, {values[target[1].side]}, plan{written})")
    yield "if the rows must be reordered, the same transfer in Python:"
    yield from (f"    {line}" for line in program)


def _new_weights(source: "tuple[str, Adapter]", weights: "Mapping[Side, Path | None]") -> Iterator[str]:
    """Yield a sentence if a transfer read the weights of a factory that loaded no file, as they may be new random ones.

    Args:
        source: The argument of the model that was read, and its adapter (the interface to a model).
        weights: For each side, the file of weights that was loaded into the model of a factory.
    """
    from keras3conv.workflows.factories import factory_of

    argument, model = source
    if weights[model.side] is None and factory_of(argument):
        option = f"--{model.side}-weights FILE"
        yield (
            f"    no file of weights was loaded into {argument}: if the function neither loads nor seeds them, they "
            f"are new random ones in every command; give {option} to both commands"
        )


def _placeholders(command: str) -> Iterator[str]:
    """Yield a sentence that says what to put in the place of the placeholders of a command; nothing if it has none."""
    for side, name in FACTORIES.items():
        if name in command.split():
            yield f"    {placeholder_in_words(side)}"


def placeholder_in_words(side: "Side") -> str:
    """Return a clause that says what to put in the place of TORCH.py:make or KERAS.py:make.

    Args:
        side: The framework of the model.
    """
    where, _, function = FACTORIES[side].partition(":")
    model = {"torch": "module", "keras": "model"}[side]
    return f"write your file for {where}, and for {function} the function in it that returns the {model}"


def entry_read(report: "Report", plan: "Alignment | None") -> str:
    """Return the option for the state dict that a transfer read by its plan: " --entry ema"; empty without a plan.

    Args:
        report: The report of the transfer.
        plan: The plan that the user gave; it may contain the name of the state dict.
    """
    name = report.sections[0].facts.get("state dict", "") if plan else ""
    return f" --entry {quote(name)}" if name else ""


def _named(
    source: "tuple[str, Adapter]",
    target: "tuple[str, Adapter]",
    out: tuple[Path, ...],
    weight_files: "Mapping[Side, Path | None]",
) -> "tuple[dict[Side, str], str]":
    """Return the command-line argument that names each model, by side, and the options with the files of weights."""
    models: dict[Side, str] = {}
    weights: dict[Side, str] = {}
    for (argument, model), written in ((source, ()), (target, out)):
        loaded = str(weight_files[model.side] or "") if model.is_live else argument
        file = str(written[0]) if written else loaded
        has_architecture = model.side == "keras" and file and _has_architecture(file)
        if has_architecture and not (model.is_live and _has_own_layers(model.source)):
            models["keras"] = file
            continue
        models[model.side] = argument if model.is_live else FACTORIES[model.side]
        weights[model.side] = f" --{model.side}-weights {quote(file)}" if file else ""
    return models, "".join(weights.get(side, "") for side in ("torch", "keras")) + import_options()


def _code_to_load(target: "Adapter", out: Sequence[Path]) -> Iterator[str]:
    """Yield a sentence for each `.keras` file with classes that are not part of Keras, which needs their code.

    Args:
        target: The model that was written.
        out: The files that were written.
    """
    files = [path for path in out if path.suffix.lower() == ".keras"]
    if not (files and target.is_live and target.side == "keras"):
        return
    import keras

    own = dict.fromkeys(one for one in _own_classes(target.source) if not one.__module__.startswith("keras3conv."))
    if not own:
        return
    unregistered = [one.__name__ for one in own if keras.saving.get_registered_name(one) == one.__name__]
    decorated = ""
    if unregistered:
        decorated = f"decorate {listed(unregistered, 5)} with @keras.saving.register_keras_serializable(), and "
    names = listed([one.__name__ for one in own], 5)
    for path in files:
        yield f"    loading {path} needs your code of {names}: {decorated}import it before keras.models.load_model"


def _has_own_layers(model: object) -> bool:
    """Return whether a Keras model has a layer of a class that is not part of Keras, whose code its file needs."""
    return any(_own_classes(model))


def _own_classes(model: object) -> Iterator[type]:
    """Yield the class of the model and of each of its layers that is not part of Keras."""
    from keras3conv.frameworks.keras.tree import layers_of

    classes = (type(one) for one in layers_of(model))
    return (one for one in classes if not one.__module__.startswith("keras."))
