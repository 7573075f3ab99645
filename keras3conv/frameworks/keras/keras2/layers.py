"""Create the Keras 3 layers of a Keras 2 file, with its arguments translated, and record the differences."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from keras3conv.errors import ModelError, Problem
from keras3conv.formats.keras2.layers import HALF_PRECISION, cudnn_settings, is_entry, policy_of, renamed, settings
from keras3conv.formats.keras2.names import allowed_names
from keras3conv.formats.keras2.network import MODELS, name_of
from keras3conv.frameworks.keras.keras2.classes import (
    Config,
    accepted_settings,
    class_named,
    hard_sigmoid_of_keras_2,
    is_of_keras,
    layers_setting,
    settings_of_training,
)
from keras3conv.frameworks.keras.tree import set_original_name
from keras3conv.frameworks.keras.values import error_message, raised_by_keras
from keras3conv.messages import lay_out, with_article


@dataclass(frozen=True, kw_only=True)
class Differences:
    """The differences of a new model from a Keras 2 file.

    Attributes:
        dropped: The paths of the layers that were left out because they act only in training.
        half_precision: The paths of the layers that computed in half precision.
        renamed: The original names of the layers by their names in the model.
    """

    dropped: list[str] = field(default_factory=list)
    half_precision: list[str] = field(default_factory=list)
    renamed: dict[str, str] = field(default_factory=dict)

    @property
    def notes(self) -> tuple[str, ...]:
        """The differences between the new model and the file, as sentences for a report."""
        notes = []
        if self.dropped:
            notes.append(
                f"these layers and losses are left out, because they act only in training: {', '.join(self.dropped)}"
            )
        if self.half_precision:
            notes.append(
                "layers that computed in half precision are read as float32 layers with the same weights: "
                f"{', '.join(self.half_precision)}"
            )
        if self.renamed:
            pairs = ", ".join(f"{old} is {new}" for new, old in self.renamed.items())
            notes.append(f"layers are renamed, because Keras 3 does not allow their names: {pairs}")
        return tuple(notes)


class Layers:
    """Creates the layers of one Keras 2 file.

    Attributes:
        differences: The differences of the new layers from the file.
    """

    def __init__(self, model: Callable[[Config, str, str], Any], replaced: Mapping[str, Any]) -> None:
        self.differences = Differences()
        self._model, self._replaced = model, replaced

    def create(self, entry: Config, path: str, name: str = "") -> Any:
        """Create the layer of a configuration; if a layer is among its arguments, create that layer first.

        Args:
            entry: The configuration of the layer in the file.
            path: The path of the layer in the model, to record differences from the file.
            name: The name of the new layer; by default that in the configuration.
        """
        class_name = renamed(entry["class_name"])
        if class_name in MODELS and "layers" in layers_setting(entry["config"]):
            return self._remembered(self._model(entry, path, name or name_of(entry)), entry, path)
        found = class_named(class_name)
        assert found is not None
        if not is_of_keras(found):
            return found.from_config(dict(entry["config"]))
        config = settings(class_name, entry["config"]) | cudnn_settings(entry["class_name"].rpartition(">")[2])
        if policy_of(entry["config"].get("dtype")) in HALF_PRECISION:
            self.differences.half_precision.append(path)
        given = {
            key: self._value(key, value, f"{path}/{key}")
            for key, value in config.items()
            if key in accepted_settings(found) and key != "trainable"
        }
        given |= settings_of_training(entry["config"], accepted_settings(found))
        if class_name == "Bidirectional" and "backward_layer" not in given:
            given |= self._backward_layer(entry["config"], path)
        if name:
            given["name"] = name
        elif "name" in given:
            given["name"] = allowed_names([given["name"]])[given["name"]]
        with explained(f"Keras 3 cannot create {with_article(class_name)} with the arguments in the file", path):
            made = self._replaced.get(class_name, found)(**given)
        if config.get("trainable") is False:
            made.trainable = False
        return self._remembered(made, entry, path)

    def _backward_layer(self, config: Config, path: str) -> dict[str, Any]:
        """Return the second layer of a Bidirectional whose first runs backwards; as in Keras 2, it runs forwards.

        Keras 3 makes a backward layer that runs backwards, whichever way the layer runs, and then refuses it.
        """
        inner: Config = config.get("layer") or {}
        if not is_entry(inner) or not inner["config"].get("go_backwards"):
            return {}
        turned = {**inner["config"], "go_backwards": False, "name": f"backward_{name_of(inner)}"}
        return {"backward_layer": self.create({**inner, "config": turned}, f"{path}/backward_layer")}

    def _remembered(self, layer: Any, entry: Config, path: str) -> Any:
        """Record the name that a new layer has in the file, if Keras 3 does not allow it; return the layer.

        Args:
            layer: The new layer.
            entry: Its configuration in the file, with the original name.
            path: Its path in the file.
        """
        original = name_of(entry)
        if original and layer.name != original:
            set_original_name(layer, original)
            self.differences.renamed[f"{path.removesuffix(original)}{layer.name}"] = path
        return layer

    def _value(self, name: str, value: Any, path: str) -> Any:
        if isinstance(value, Mapping) and is_entry(value):
            return self.create(value, path)
        if isinstance(value, list) and value and all(is_entry(one) for one in value):
            return [self.create(one, f"{path}_{place}") for place, one in enumerate(value)]
        if name.endswith("activation") and value == "hard_sigmoid":
            return hard_sigmoid_of_keras_2
        return tuple(value) if isinstance(value, list) else value


@contextmanager
def explained(headline: str, path: str) -> Iterator[None]:
    """Replace an error of Keras in the `with` block by a `ModelError`.

    Args:
        headline: The first line of its message.
        path: The path of the layer that Keras refuses.
    """
    try:
        yield
    except raised_by_keras() as error:
        problem = Problem(keras=path, fact=f"{type(error).__name__}: {error_message(error)}")
        raise ModelError(lay_out(headline, [problem])) from error
