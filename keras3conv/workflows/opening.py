"""Open the Keras model that is converted to torch: a live one, a file, an architecture, or what Keras 2 saved."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keras3conv import formats
from keras3conv.builder.to_torch.build import require_none
from keras3conv.errors import InputError, Problem
from keras3conv.frameworks.adapter import Adapter
from keras3conv.frameworks.sides import resolve
from keras3conv.steps import step
from keras3conv.workflows.sources import require_weights

if TYPE_CHECKING:
    from keras3conv.formats.keras2.file import Saved


def live_model(model: Any, weights: Path | None) -> Any:
    """Return a model as a live object: the model itself, or the model that is loaded from a file.

    Layers that Keras cannot load safely, without running code from the file, are refused.

    Args:
        model: A live model, or the path of a file with an architecture.
        weights: A file with the weights, if they are not those of the model.
    """
    if formats.is_architecture(model):
        return _from_json(Path(model), weights)
    given = resolve(model)
    with step("read the model"):
        return _opened(given, weights)


def _opened(adapter: Adapter, weights: Path | None) -> Any:
    loaded = adapter.source if adapter.is_live else _loaded(adapter.source)
    if weights is not None:
        from keras3conv.frameworks.keras import files as keras_files

        keras_files.load_weights(loaded, weights)
    return loaded


def _loaded(path: Path) -> Any:
    layers = formats.read(path).layers
    if not any(layer.config for layer in layers):
        raise InputError(
            f"{path} contains weights, but no architecture, so it cannot be converted to a module\n"
            f'Fix:  k3c.transfer("{path}", module, plan)     or     k3c.convert(model, weights="{path}")'
        )
    from keras3conv.formats.keras2.file import saved_model
    from keras3conv.frameworks.keras import files as keras_files

    if saved := saved_model(path):
        return _of_keras_2(saved, path)
    _require_writable([(layer.path, layer.kind) for layer in layers], path)
    return keras_files.load(path)


def _require_writable(layers: Sequence[tuple[str, str]], path: Path) -> None:
    """Raise `UnsupportedLayerError` if Keras cannot load some layers of a file.

    The message then also lists the layers without a counterpart in torch. If Keras can load all layers, the missing
    counterparts are found later in the live model, which also has the configurations of its layers.
    """
    from keras3conv.builder.operations.refused import refusal
    from keras3conv.frameworks.keras import files as keras_files

    problems = {problem.keras: problem for problem in keras_files.unloadable(layers, path)}
    if problems:
        kinds = ((name, keras_files.kind_in_models(kind)) for name, kind in layers if name not in problems)
        refused = ((name, refusal(kind)) for name, kind in kinds)
        problems |= {name: Problem(keras=name, fact=fact) for name, fact in refused if fact}
    require_none(path.name, tuple(problems[name] for name, _ in layers if name in problems))


def _from_json(path: Path, weights: Path | None) -> Any:
    from keras3conv.formats.keras import json as keras_json
    from keras3conv.formats.keras2.file import saved_model
    from keras3conv.frameworks.keras import architecture

    require_weights(path, weights, f'k3c.convert("{path}", weights="model.weights.h5")')
    layers = [(name, layer.kind) for name, layer in keras_json.read(path).walk()]
    if saved := saved_model(path):
        return _of_keras_2(saved, weights)
    _require_writable(layers, path)
    return architecture.made(path, None, weights)


def _of_keras_2(saved: "Saved", weights: Path | None) -> Any:
    """Return a Keras 3 model made from an architecture that Keras 2 saved, with the weights of a Keras 2 file."""
    from keras3conv.frameworks.keras.keras2.reading import problems_of, read_model

    other = None if weights == saved.path else weights
    require_none(saved.path.name, problems_of(saved, other))
    return read_model(saved, other)
