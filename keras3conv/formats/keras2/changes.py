"""List the settings of a Keras 2 architecture that have another name, value or meaning in Keras 3, layer by layer."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from keras3conv.collapsing import collapse
from keras3conv.formats.keras2.layers import (
    MERGES,
    Config,
    cudnn_settings,
    has_masks,
    is_entry,
    is_training_only,
    name_in_file,
    renamed,
    settings,
)
from keras3conv.formats.keras2.network import name_of

_SHAPES = ("batch_input_shape", "batch_shape", "dtype", "axis", "name")
"""The arguments whose form differs, but not their meaning; half precision has a separate note."""


_NAMED = 5
"""The number of layers that a note names."""


def changed_settings(entry: Config) -> tuple[tuple[str, str], ...]:
    """Return the changed settings of all layers: (("lstm", "reset_after=False, which the file leaves out"),).

    Each is the path of a layer, and a setting that has another name, value or meaning in Keras 3, as text.
    Layers with the same change that differ only in a number share one entry, such as "lstm_{1..3}".

    Args:
        entry: The configuration of the model in the file.
    """
    is_masked = has_masks(entry)
    found = [(path, text) for path, layer in _layers(entry, "") for text in _changes(layer, is_masked=is_masked)]
    lines = collapse([(path,) for path, _ in found], [text for _, text in found])
    return tuple((one.paths[0], found[one.places[0]][1]) for one in lines)


def notes_of_changes(changes: Sequence[tuple[str, str]], file: str) -> tuple[str, ...]:
    """Return a note for each changed setting, such as "old.h5, lstm_1, lstm_2: recurrent_activation=... is ...".

    Args:
        changes: The changes, as `changed_settings` returns them.
        file: The name of the file. A note names at most five layers, and says that `inspect` lists the others.
    """
    layers: dict[str, list[str]] = {}
    for path, text in changes:
        layers.setdefault(text, []).append(path)
    notes = []
    for text, paths in layers.items():
        rest = len(paths) - _NAMED
        more = f" and {rest} more, which keras3conv inspect {file} lists" if rest > 0 else ""
        notes.append(f"{file}, {', '.join(paths[:_NAMED])}{more}: {text}")
    return tuple(notes)


def _layers(value: Any, path: str) -> Iterator[tuple[str, Config]]:
    """Yield the path and the configuration of every layer, also of those inside models, wrappers and cells.

    Args:
        value: The configuration of a model or layer, or a list of them.
        path: The path of the model or layer; empty for the whole model.
    """
    if isinstance(value, list):
        for place, one in enumerate(value):
            yield from _layers(one, f"{path}_{place}")
    elif is_entry(value) and not is_training_only(value):
        yield path, value
        yield from _layers_inside(value["config"], path)


def _layers_inside(config: Any, path: str) -> Iterator[tuple[str, Config]]:
    layers = config.get("layers", []) if isinstance(config, Mapping) else config
    for layer in layers if isinstance(layers, list) else ():
        if is_entry(layer):
            yield from _layers(layer, f"{path}/{name_of(layer)}".lstrip("/"))
    for name, argument in config.items() if isinstance(config, Mapping) else ():
        if name != "layers":
            yield from _layers(argument, f"{path}/{name}".lstrip("/"))


def _changes(entry: Config, *, is_masked: bool) -> Iterator[str]:
    """Yield a line for each setting of one layer that has another name, value or meaning in Keras 3.

    Args:
        entry: The configuration of the layer in the file.
        is_masked: Whether the model has masks, which some layers merge differently in Keras 3.
    """
    given, old_class = entry["config"], entry["class_name"].rpartition(">")[2]
    if not isinstance(given, Mapping):
        return
    class_name = renamed(old_class)
    fixed = cudnn_settings(old_class)
    if class_name != old_class:
        with_settings = ", ".join(f"{name}={value!r}" for name, value in fixed.items())
        yield f"{old_class} is {class_name}{f' with {with_settings}' if fixed else ''}"
    read = settings(class_name, given)
    for name, value in read.items():
        if name in _SHAPES or name in fixed:
            continue
        old = name if name in given else name_in_file(class_name, name)
        if old not in given:
            yield f"{name}={_shown(value)}, which the file leaves out"
        elif (old, given[old]) != (name, value):
            yield f"{old}={_shown(given[old])} is {name}={_shown(value)}"
        elif name.endswith("activation") and value == "hard_sigmoid":
            yield f"{name}={value!r} is clip(0.2 x + 0.5, 0, 1); in Keras 3 its slope is 1/6"
    if is_masked and class_name in MERGES:
        yield "a step is masked if any input masks it; in Keras 3 only if all inputs mask it"


def _shown(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else repr(value)
