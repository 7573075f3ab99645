"""Find the two models that a command names, one for each side (torch and Keras): files, or factories with weights."""

import os
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Any

from keras3conv.cli.app import note
from keras3conv.cli.exchanged import exchanged
from keras3conv.cli.imported import import_options
from keras3conv.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from keras3conv.alignment.plan import Alignment
    from keras3conv.frameworks.adapter import Adapter
    from keras3conv.model.views import Side

Named = tuple[str, str, Path | None, Path | None]
"""The arguments for the torch model and the Keras model, and the files of weights of each."""


def both(
    torch: str, keras: str, torch_weights: Path | None, keras_weights: Path | None, entry: str, *, local: bool = False
) -> "tuple[tuple[Adapter, Adapter], Named]":
    """Return the adapters (the interface to a model) of the torch model and of the Keras model that two arguments name.

    The second result is the first four arguments. If the first argument names a Keras model and the second a torch
    model, these two are exchanged in both results, and a line on stderr says so.

    Args:
        torch: The torch model: a file or a factory.
        keras: The Keras model: a file or a factory.
        torch_weights: The weights to load into the torch model.
        keras_weights: The weights to load into the Keras model.
        entry: The name of the state dict, if a torch checkpoint holds several.
        local: Whether to load no weights. If a file has the weights of a model, the model is then made without values
            (on the meta device), if its framework allows it.
    """
    from contextlib import nullcontext

    from keras3conv.frameworks.sides import Sides
    from keras3conv.frameworks.stored import without_memory
    from keras3conv.workflows.factories import Weights, require_used, resolve

    weights = Weights(entry=entry) if local else Weights(torch=torch_weights, keras=keras_weights, entry=entry)
    found = []
    for argument, path in ((torch, torch_weights), (keras, keras_weights)):
        with without_memory() if local and path else nullcontext():
            found.append(resolve(argument, weights))
    if [model.side for model in found] == ["keras", "torch"]:
        note(f"the arguments were read in the other order: {keras} is the torch model, {torch} the Keras model")
        exchanged.set(True)
        if local:  # which of them is made without values depends on its side
            return both(keras, torch, torch_weights, keras_weights, entry, local=True)
        torch, keras, found = keras, torch, found[::-1]
    sides = Sides.of(found[0].source, found[1].source, entry=entry)
    require_used(weights, (torch, sides.torch), (keras, sides.keras))
    return (sides.torch, sides.keras), (torch, keras, torch_weights, keras_weights)


def _require_keras_weights(argument: str, weights: Path | None) -> None:
    """Raise `InputError` if an argument names an architecture without weights (.json), and no weights are given.

    Args:
        argument: A file or a factory.
        weights: The weights to load into the Keras model.
    """
    from keras3conv.formats.identify import is_architecture
    from keras3conv.workflows.sources import require_weights

    if is_architecture(argument):
        require_weights(argument, weights, "--keras-weights model.weights.h5")


def require_out(target: str, model: "Adapter", out: "Sequence[Path]") -> None:
    """Raise `InputError` if the target of a transfer is a live model without a file to be saved to.

    Args:
        target: The argument that names the target.
        model: The target.
        out: The files to write.
    """
    from keras3conv.cli.suggested import unused
    from keras3conv.formats.identify import is_architecture

    if model.is_live and not out:
        name = unused(Path({"torch": "net.safetensors", "keras": "model.keras"}[model.side]))
        kind = "an architecture" if is_architecture(target) else "a factory"
        raise InputError(
            f"{target} is {kind}, so its model needs a file to be saved to, but none is given\nFix:  -o {name}"
        )


def both_ends(
    source: str, target: str, torch_weights: Path | None, keras_weights: Path | None, entry: str
) -> "tuple[Adapter, Adapter]":
    """Return the adapters (the interface to a model) of the source and the target of a transfer.

    Args:
        source: The model to read: a file or a factory.
        target: The model to write.
        torch_weights: The weights to load into the torch model.
        keras_weights: The weights to load into the Keras model.
        entry: The name of the state dict, if a torch checkpoint holds several.
    """
    from keras3conv.workflows.factories import Weights, require_used, resolve

    _require_keras_weights(source, keras_weights)
    weights = Weights(torch=torch_weights, keras=keras_weights, entry=entry)
    ends = resolve(source, weights), resolve(target, weights)
    require_used(weights, (source, ends[0]), (target, ends[1]))
    return ends


def made_without_weights(
    torch: str, keras: str, torch_weights: Path | None, keras_weights: Path | None
) -> "dict[Side, str]":
    """Return the factories whose models get no file of weights, by side.

    Args:
        torch: The torch model: a file or a factory.
        keras: The Keras model: a file or a factory.
        torch_weights: The weights to load into the torch model.
        keras_weights: The weights to load into the Keras model.

    Raises:
        InputError: The Keras model is an architecture, which has no weights, and none are given.
    """
    from keras3conv.workflows.factories import factory_of

    _require_keras_weights(keras, keras_weights)
    found: dict[Side, str] = {}
    if torch_weights is None and factory_of(torch):
        found["torch"] = torch
    if keras_weights is None and factory_of(keras):
        found["keras"] = keras
    return found


def align_with_hints(
    torch: "Adapter", keras: "Adapter", hints: "Mapping[str, str]", inputs: "Mapping[str, Any]", entry: str
) -> "Alignment":
    """Return the plan between two models with known pairs of layers.

    Args:
        torch: The torch model.
        keras: The Keras model.
        hints: The known pairs.
        inputs: The inputs of the models, as the arguments `inputs` and `keras_inputs` of `align`.
        entry: The name of the state dict, if a torch checkpoint holds several.
    """
    from keras3conv import api

    return api.align(torch.source, keras.source, hints=hints, **inputs, entry=entry)


def align_ends(source: "Adapter", target: "Adapter", entry: str) -> "Alignment":
    """Return the plan between the source and the target of a transfer.

    Args:
        source: The model to read.
        target: The model to write.
        entry: The name of the state dict, if a torch checkpoint holds several.

    Raises:
        InputError: Both models are of one framework, or the target file does not exist.
    """
    from keras3conv import api

    if source.side == target.side:
        raise InputError(
            f"source and target are both {source.side} models, but a transfer goes from one framework to the other"
        )
    if not target.is_live and not os.path.lexists(target.source):
        raise InputError(
            f"{target.source} does not exist, so the layers of {source.source} cannot be aligned with its layers: name "
            f"a model or a file that has them{_targets(source, target, entry)}"
        )
    by_side = {source.side: source.source, target.side: target.source}
    return api.align(by_side["torch"], by_side["keras"], entry=entry)


def _targets(source: "Adapter", target: "Adapter", entry: str) -> str:
    """Return the end of an error message: suggested commands for a target file that does not exist.

    Args:
        source: The model to read.
        target: The file that does not exist.
        entry: The name of the state dict, if a torch checkpoint holds several.
    """
    from keras3conv.cli.next_command import FACTORIES, placeholder_in_words
    from keras3conv.formats.identify import SUFFIXES, by_suffix
    from keras3conv.formats.store import LAYOUTS

    named = str(target.source)
    suffix = next(one for one in SUFFIXES if named.lower().endswith(one))
    rest = f" -o {quote(named)}" + (f" --entry {quote(entry)}" if entry else "") + import_options()
    other = f"EXISTING{suffix}"
    lines = [
        f"keras3conv transfer {quote(str(source.source))} {existing}{rest}"
        for existing in (FACTORIES[target.side], other)
    ]
    if by_suffix(target.source) in LAYOUTS:  # other files are written by the model alone
        lines.append("--plan PLAN.json  # which keras3conv align -o PLAN.json wrote")
    said = f"{placeholder_in_words(target.side)}; for {other}, a file with weights of the same model"
    return f". Below, {said}\nFix:  {'     or     '.join(lines)}"
