"""Define pairs of a torchvision model and a model of keras.applications, which differ in documented details."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import keras
from keras import applications

from benchmarks._fidelity import Entry, Pair, randomised
from benchmarks._torchvision import torchvision_models

Change = Callable[[Any], Any]
"""Returns the replacement of a Keras layer."""


class BorderedAverage(keras.layers.Layer):  # type: ignore[misc]
    """A 3x3 average pooling that counts the zero padding, as torch does."""

    def call(self, inputs: Any) -> Any:
        """Return the padded and averaged input."""
        padded = keras.ops.pad(inputs, [[0, 0], [1, 1], [1, 1], [0, 0]])
        return keras.ops.average_pool(padded, 3, 1, "valid")


def reconfigured(layer: Any, changes: Mapping[str, Mapping[str, Any]]) -> Any:
    """Return a copy of the layer with configuration changes for its name or its class."""
    config = layer.get_config()
    wanted = {**changes.get(type(layer).__name__, {}), **changes.get(layer.name, {})}
    return type(layer).from_config({**config, **{name: value for name, value in wanted.items() if name in config}})


def rebuilt(model: Any, change: Change) -> Any:
    """Return a copy of the model with some of its layers replaced."""
    return keras.models.clone_model(model, clone_function=change)


def with_changes(changes: Mapping[str, Mapping[str, Any]]) -> Callable[[Any], Any]:
    """Return a function that copies a model with changed layer configurations."""
    return partial(rebuilt, change=partial(reconfigured, changes=changes))


def _averaging(layer: Any) -> Any:
    same = isinstance(layer, keras.layers.AveragePooling2D) and layer.padding == "same"
    return BorderedAverage(name=layer.name) if same else reconfigured(layer, {})


def _made(
    torch_name: str,
    keras_name: str,
    size: int,
    *,
    named: Sequence[str] = (),
    repaired: Callable[[Any], Any] | None = None,
    scrambled: bool = True,
    torch_options: Mapping[str, Any] | None = None,
    keras_options: Mapping[str, Any] | None = None,
) -> Pair:
    module = getattr(torchvision_models(), torch_name)(weights=None, **(torch_options or {}))
    model = getattr(applications, keras_name)(
        weights=None, classifier_activation=None, input_shape=(size, size, 3), **(keras_options or {})
    )
    module = randomised(module) if scrambled else module.eval()
    return Pair(torch=module, keras=model, named=named, repaired=repaired)


_PLAIN_EPSILON: Mapping[str, Mapping[str, Any]] = {"BatchNormalization": {"epsilon": 1e-5}}

# In torch the stride is that of the second convolution, in Keras of the first.
_STRIDES: Mapping[str, Mapping[str, Any]] = {
    f"conv{stage}_block1_{place}_conv": {"strides": strides}
    for stage in (3, 4, 5)
    for place, strides in ((1, (1, 1)), (2, (2, 2)))
}

ENTRIES = tuple(
    Entry(name=name, build=build, needs=("torchvision",))
    for name, build in (
        ("VGG16", partial(_made, "vgg16", "VGG16", 224)),
        ("VGG19", partial(_made, "vgg19", "VGG19", 224)),
        (
            # With odd sizes "same" pads as torch does; the epsilons and the positions of the strides still differ.
            "ResNet50",
            partial(
                _made,
                "resnet50",
                "ResNet50",
                65,
                named=("epsilon is 1e-05 in torch and 1.001e-05 in Keras",),
                repaired=with_changes({**_PLAIN_EPSILON, **_STRIDES}),
            ),
        ),
        (
            "DenseNet121",
            partial(
                _made,
                "densenet121",
                "DenseNet121",
                64,
                named=("epsilon is 1e-05 in torch and 1.001e-05 in Keras",),
                repaired=with_changes(_PLAIN_EPSILON),
            ),
        ),
        (
            # With odd sizes "same" pads as torch does; only the epsilons differ.
            "MobileNetV2",
            partial(
                _made,
                "mobilenet_v2",
                "MobileNetV2",
                65,
                named=("epsilon is 1e-05 in torch and 0.001 in Keras",),
                repaired=with_changes(_PLAIN_EPSILON),
            ),
        ),
        (
            # With odd sizes "same" pads as torch does, so nothing differs.
            "MobileNetV3Small",
            partial(
                _made, "mobilenet_v3_small", "MobileNetV3Small", 65, keras_options={"include_preprocessing": False}
            ),
        ),
        (
            # Keras' normalizations have no scale: torch's weights must be ones, which is their initial value.
            "InceptionV3",
            partial(
                _made,
                "inception_v3",
                "InceptionV3",
                139,
                named=("average pooling counts the padding in torch: True; in Keras: False",),
                repaired=partial(rebuilt, change=_averaging),
                scrambled=False,
                torch_options={"aux_logits": False, "init_weights": False},
            ),
        ),
        (
            "ConvNeXtTiny",
            partial(_made, "convnext_tiny", "ConvNeXtTiny", 64, keras_options={"include_preprocessing": False}),
        ),
    )
)
