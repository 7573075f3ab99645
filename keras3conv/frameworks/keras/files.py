"""Load and save Keras models with Keras itself; a failed save leaves no partial file."""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import keras

from keras3conv import formats
from keras3conv.errors import BudgetExceeded, InputError, ModelError, Problem, message_of
from keras3conv.formats.keras import archive
from keras3conv.formats.keras.json import parsed
from keras3conv.formats.keras2.file import groups, is_legacy
from keras3conv.formats.keras2.network import MODELS
from keras3conv.formats.tensorflow.file import FORMAT as TENSORFLOW
from keras3conv.frameworks.keras.internals import OPERATION_MODULES
from keras3conv.frameworks.keras.keras2.checkpoints import load_checkpoint
from keras3conv.frameworks.keras.keras2.loading import load_by_names
from keras3conv.frameworks.keras.observing import tensorflow_not_imported
from keras3conv.frameworks.keras.operations import kind_named
from keras3conv.frameworks.keras.operations_in_files import operations_in
from keras3conv.frameworks.keras.tree import require_built
from keras3conv.frameworks.keras.values import error_message
from keras3conv.frameworks.keras.view import view
from keras3conv.messages import lay_out
from keras3conv.model.views import LayerView, ModelView
from keras3conv.transforms import Shape
from keras3conv.writing.digests import WrittenFile, digest
from keras3conv.writing.outputs import replacing


def load(path: Path, own: Mapping[str, Any] | None = None) -> keras.Model:
    """Load a model with its architecture from a `.keras` file or a full-model `.h5`.

    The safe mode of Keras stays on: code in the file never runs.

    Args:
        path: The file.
        own: Custom classes and functions by name that are not registered with Keras.

    Raises:
        ModelError: Keras cannot build the model, for example because a custom class is missing.
        BudgetExceeded: The layers are too large for the memory.
    """
    try:
        with tensorflow_not_imported():
            return keras.saving.load_model(path, custom_objects={**operations_in(path), **(own or {})}, compile=False)
    except (ValueError, TypeError, OSError, KeyError, AttributeError, NotImplementedError) as error:
        first_line = message_of(error).strip().splitlines()[0] if message_of(error).strip() else type(error).__name__
        problem = Problem(
            keras=str(path),
            fact=first_line,
            fixes=(f'k3c.convert(make_model(), weights="{path}")  # make_model is your own code',),
        )
        raise ModelError(lay_out(f"Keras cannot make a model of {path}", [problem])) from error
    except MemoryError as error:
        raise BudgetExceeded(
            f"{path} describes a model that does not fit into memory: {error}; it needs a machine with more memory"
        ) from error


def from_json(path: Path) -> keras.Model:
    """Build a model with initial weights from the architecture that `model.to_json()` wrote.

    Raises:
        ModelError: Keras cannot build the model.
        FileError: The file cannot be read, is not such JSON, or its layers are too large for the memory.
    """
    try:
        with tensorflow_not_imported():
            return keras.models.model_from_json(json.dumps(parsed(path)))
    except MemoryError as error:
        raise BudgetExceeded(
            f"{path} describes a model that does not fit into memory: {error}; it needs a machine with more memory"
        ) from error
    except (ValueError, TypeError, OSError, KeyError, AttributeError, NotImplementedError) as error:
        problem = Problem(keras=str(path), fact=error_message(error))
        raise ModelError(lay_out(f"Keras cannot make a model of {path}", [problem])) from error


def unloadable(layers: Iterable[tuple[str, str]], path: Path) -> Iterator[Problem]:
    """Yield a problem for each layer in a file that Keras cannot load: with code in the file, or an unregistered class.

    Args:
        layers: The path and the class of every layer; the class is empty for a layer inside another one, which makes it
            (the query of an attention).
        path: The file.
    """
    own_code = f'k3c.convert(make_model(), weights="{path}")  # make_model is your own code'
    for name, kind in layers:
        if kind == "keras.layers.Lambda":
            fact = "a Lambda layer contains Python code, and no code is ever run from a file"
            yield Problem(keras=name, fact=fact, fixes=(own_code,))
        elif kind and not _is_known(kind):
            short = kind.rpartition(".")[2].rpartition(">")[2]
            own = short if kind.startswith("keras.") else kind  # the file has no module for a class of a script
            fact = f"the class {own} is not part of Keras, and no class is registered under this name"
            register = f'keras.saving.get_custom_objects()["{short}"] = {short}  # your class; then convert again'
            yield Problem(keras=name, fact=fact, fixes=(register, own_code))


def require_loadable(layers: Iterable[LayerView], path: Path) -> None:
    """Raise `ModelError` with every layer of a file that Keras cannot load; do nothing if there is none."""
    if problems := list(unloadable([(layer.path, layer.kind) for layer in layers], path)):
        raise ModelError(lay_out(f"Keras cannot make a model of {path}", problems))


def register_classes(module: ModuleType) -> None:
    """Register the layer classes that a module of the user defines with Keras, which then can load them from a file.

    A class that is registered already, under any name, is left as it is.
    """
    known = keras.saving.get_custom_objects()
    for name, value in vars(module).items():
        is_own = isinstance(value, type) and value.__module__ == module.__name__
        if is_own and issubclass(value, keras.layers.Layer) and value not in known.values():
            known[name] = value


def kind_in_models(kind: str) -> str:
    """Return the public name of a layer class or an operation in a Keras file: "keras.ops.fft" for "keras.layers.FFT".

    Keras files list the operations of a model as if they were layers. The name of a layer class is returned unchanged.
    """
    name = kind.rpartition(".")[2]
    is_layer = not kind.startswith("keras.layers.") or hasattr(keras.layers, name)
    return kind if is_layer else kind_named(name) or kind


def _is_known(kind: str) -> bool:
    namespace, _, name = kind.rpartition(".")
    if ">" not in kind and namespace.startswith("keras"):
        modules = (keras.layers, keras, keras.models, *OPERATION_MODULES)
        if any(hasattr(module, name) for module in modules) or name in (*_names_in_code(), *MODELS):
            return True
    names = (kind, name, f"Custom>{name}")
    own = keras.saving.get_custom_objects().values()  # a package in the registered name is not in the file's class name
    return any(keras.saving.get_registered_object(one) is not None for one in names) or any(
        (getattr(one, "__module__", ""), getattr(one, "__name__", "")) == (namespace, name) for one in own
    )


@cache
def _names_in_code() -> frozenset[str]:
    """Return the names of the layer classes in the code of Keras, one of which is public under another name."""
    return frozenset(value.__name__ for value in vars(keras.layers).values() if isinstance(value, type))


def load_weights(model: keras.Model, path: Path) -> None:
    """Load the weights of a Keras file into a live model.

    Raises:
        ModelError: The file does not contain exactly the weights of this model, or Keras cannot load it.
        InputError: The file is not a Keras file.
        FileError: The file cannot be read.
    """
    saved = formats.read(path)
    if saved.side != "keras":
        raise InputError(
            f"{path} contains torch weights, but Keras weights are needed here"
            "; keras3conv align and transfer move torch weights into a Keras model"
        )
    require_built(model)
    of_model, of_file = _shapes(view(model, described=False)), _shapes(saved)
    headline = f"the weights in {path} are not the weights of {model.name} (keras)"
    # Keras does not report weights in the file that it did not load, so the shapes are compared first.
    problems = [
        Problem(fact=f"the {there} has {number} variables of shape {shape}, and the {here} {other[shape]}")
        for there, shapes, here, other in (
            ("model", of_model, "file", of_file),
            ("file", of_file, "model", of_model),
        )
        for shape, number in shapes.items()
        if number > other[shape]
    ]
    if problems:
        raise ModelError(lay_out(headline, problems))
    if saved.facts["format"] == TENSORFLOW:
        load_checkpoint(model, saved, path)
        return
    if is_legacy(path):
        load_by_names(model, groups(path), path)
        return
    try:
        model.load_weights(path)
    except (ValueError, TypeError, OSError, KeyError, AttributeError, NotImplementedError) as error:
        first_line = message_of(error).strip().splitlines()[0] if message_of(error).strip() else type(error).__name__
        raise ModelError(lay_out(headline, [Problem(fact=first_line)])) from error


def _shapes(viewed: ModelView) -> Counter[Shape]:
    return Counter(tensor.shape for tensor in viewed.tensors() if not tensor.is_seed)


def save(model: Any, path: Path, *, overwrite: bool) -> WrittenFile:
    """Save a model (`.keras`, `.h5`) or its weights (`.weights.h5`) atomically.

    Args:
        model: The model.
        path: The file to write.
        overwrite: Whether an existing file may be replaced.

    Raises:
        FileError: The file exists, or its folder does not.
    """
    with replacing(path, overwrite=overwrite) as temporary:
        save_to(model, temporary)
    return digest(path)


def save_to(model: Any, path: Path) -> None:
    """Save a model, or its weights for a `.weights.h5`, to a temporary file; Keras chooses the format by the suffix.

    Args:
        model: The model.
        path: The temporary file, with the suffix of the final one.
    """
    with tensorflow_not_imported():
        if path.name.endswith(".weights.h5"):
            model.save_weights(path)
            return
        model.save(path)
    if path.suffix == ".keras":
        archive.remove_times(path)


@dataclass(frozen=True)
class SavedByKeras:
    """A live model that Keras itself saves to one file."""

    model: Any
    path: Path

    def paths(self) -> tuple[Path, ...]:
        """Return the path to which the model is saved, in a tuple of one."""
        return (self.path,)

    def write(
        self, temporaries: Sequence[Path], progress: formats.Progress | None = None
    ) -> tuple[formats.Written, ...]:
        """Save the model under a temporary path; the caller renames the file."""
        save_to(self.model, temporaries[0])
        return (formats.written_by_others(temporaries[0], self.path),)

    def job(self) -> str:
        """Return an empty string: a save by Keras cannot be resumed, so nothing identifies it for a later process."""
        return ""

    def superseded(self) -> tuple[Path, ...]:
        """Return no paths: one file is written, so no shards of an earlier save become obsolete."""
        return ()
