"""Translate the class names and constructor arguments of Keras 2 layers to those of Keras 3; no layer is created.

Initializers, regularizers and constraints are no arguments here, because they have no effect after training.
"""

from collections.abc import Mapping
from typing import Any

_CLASSES = {
    "BatchNormalizationV1": "BatchNormalization",
    "BatchNormalizationV2": "BatchNormalization",
    "SyncBatchNormalization": "BatchNormalization",
    "LSTMV2": "LSTM",
    "GRUV2": "GRU",
    "LSTMCellV2": "LSTMCell",
    "GRUCellV2": "GRUCell",
    "Convolution1D": "Conv1D",
    "Convolution2D": "Conv2D",
    "Convolution3D": "Conv3D",
    "ThresholdedReLU": "ReLU",
    "CuDNNLSTM": "LSTM",
    "CuDNNGRU": "GRU",
    "AvgPool2D": "AveragePooling2D",
    "MaxPool2D": "MaxPooling2D",
}
"""The Keras 3 name for each class name that Keras 3 changed."""

REFUSED = {
    "Lambda": "a Lambda layer contains Python code, and no code is ever run from a file",
    "LocallyConnected1D": "Keras 3 has no layer of this class",
    "LocallyConnected2D": "Keras 3 has no layer of this class",
    "RandomFourierFeatures": "Keras 3 has no layer of this class",
    "DenseFeatures": "Keras 3 has no layer of this class",
}
"""The Keras 2 classes without a counterpart in Keras 3, each with the reason."""

TRAINING_ONLY = frozenset(
    {
        "AddLoss", "AddMetric", "RandomBrightness", "RandomContrast", "RandomFlip", "RandomHeight", "RandomRotation",
        "RandomTranslation", "RandomWidth", "RandomZoom",
    }
)  # fmt: skip
"""The Keras 2 layer classes that return their input unchanged in inference mode."""

_CUDNN = {
    "CuDNNLSTM": {"activation": "tanh", "recurrent_activation": "sigmoid", "use_bias": True},
    "CuDNNGRU": {"activation": "tanh", "recurrent_activation": "sigmoid", "use_bias": True, "reset_after": True},
}
"""The arguments that a cuDNN layer always has, so that its configuration leaves them out, with their values."""

_ACTIVATIONS = {"softmax_v2": "softmax", "swish": "silu"}
"""The Keras 3 name for each activation name that Keras 3 changed."""

HALF_PRECISION = frozenset({"mixed_float16", "mixed_bfloat16", "float16", "bfloat16"})
"""The dtype policies whose layers compute in half precision: "mixed_float16", "float16", "bfloat16" and others."""

_NAMES = {
    "InputLayer.batch_input_shape": "batch_shape",
    "LeakyReLU.alpha": "negative_slope",
    "ReLU.theta": "threshold",
}
"""The Keras 3 name for each argument name that Keras 3 changed, by class and argument."""

_TRAINING = ("_initializer", "_regularizer", "_constraint")
"""The suffixes of argument names that only concern initialization and training, such as "_regularizer"."""

_ANY = object()

_WITHOUT_EFFECT: Mapping[str, tuple[Any, ...]] = {
    "trainable": (_ANY,),  # set after the layer is created
    "groups": (1,),
    "time_major": (False,),
    "ragged": (False, None),
    "optional": (False,),
    "implementation": (_ANY,),
    "rng_type": (_ANY,),
    "vectorized": (_ANY,),
    "autocast": (_ANY,),
    "experimental_autocast": (_ANY,),
    "fused": (_ANY,),
    "renorm": (False, None),
    "renorm_clipping": (None,),
    "renorm_momentum": (_ANY,),
    "virtual_batch_size": (None,),
    "adjustment": (None,),
    "synchronized": (False, True),
    "batch_input_shape": (_ANY,),
    "batch_size": (None,),
    "query_shape": (_ANY,),
    "key_shape": (_ANY,),
    "value_shape": (_ANY,),
    "causal": (False,),
    "input_dtype": (_ANY,),
    "input_length": (_ANY,),
    "input_dim": (_ANY,),
    "build_input_shape": (_ANY,),
    "softmax_robust_masking": (False,),
    "noise_shape": (None,),
    "salt": (None,),
    "max_tokens": (None,),
    "vocabulary_size": (_ANY,),
    "has_input_vocabulary": (_ANY,),
}
"""The arguments that Keras 3 removed, each with the values that change nothing."""

MERGES = ("Add", "Subtract", "Multiply", "Average", "Maximum", "Minimum", "Concatenate")
"""The layers that merge the masks of their inputs, in Keras 2 by another rule than in Keras 3."""

Config = Mapping[str, Any]


def renamed(class_name: str) -> str:
    """Return the Keras 3 name of a Keras 2 class: "LSTM" for "CuDNNLSTM"; a class with the same name is unchanged."""
    short = class_name.rpartition(">")[2] if class_name.startswith("Keras>") else class_name
    return _CLASSES.get(short, short)


def is_training_only(entry: Config) -> bool:
    """Return whether a layer returns its input unchanged in inference mode; of a Sequential, whether all layers do."""
    if renamed(entry["class_name"]) in TRAINING_ONLY:
        return True
    config = entry["config"]
    layers = config.get("layers") if isinstance(config, Mapping) else config
    if entry["class_name"] != "Sequential" or not isinstance(layers, list):
        return False
    inner = [layer for layer in layers if layer["class_name"] != "InputLayer"]
    return bool(inner) and all(map(is_training_only, inner))


def has_masks(value: Any) -> bool:
    """Return whether a nested configuration has masks: a Masking, an Embedding with `mask_zero`, a mask in a call."""
    if isinstance(value, Mapping):
        makes_one = value.get("class_name") == "Masking" or value.get("mask_zero")
        return bool(makes_one) or isinstance(value.get("mask"), list) or any(map(has_masks, value.values()))
    return isinstance(value, list) and any(map(has_masks, value))


def is_entry(value: Any) -> bool:
    """Return whether an argument of a layer is the configuration of another layer or of a model."""
    return isinstance(value, Mapping) and {"class_name", "config"} <= value.keys()


def cudnn_settings(class_name: str) -> dict[str, Any]:
    """Return the arguments that a cuDNN layer implies for the LSTM or GRU that replaces it; {} for other layers."""
    return dict(_CUDNN.get(class_name, {}))


def settings(class_name: str, config: Config) -> dict[str, Any]:
    """Return the constructor arguments of a layer, renamed for Keras 3.

    Arguments that Keras 3 does not know are kept; initializers and regularizers are left out. A half-precision dtype
    becomes float32.

    Args:
        class_name: The class in Keras 3.
        config: The constructor arguments in the file.
    """
    found: dict[str, Any] = {}
    for name, value in config.items():
        if name.endswith(_TRAINING) or name == "activity_regularizer":
            continue
        is_activation = name.endswith("activation") and isinstance(value, str)
        found[_NAMES.get(f"{class_name}.{name}", name)] = _ACTIVATIONS.get(value, value) if is_activation else value
    if "dtype" in found:
        policy = policy_of(found["dtype"])
        found["dtype"] = "float32" if policy in HALF_PRECISION else policy
    if class_name in ("BatchNormalization", "LayerNormalization"):
        found["axis"] = unwrapped(found.get("axis", -1))
    if class_name in ("GRU", "GRUCell"):
        found.setdefault("reset_after", False)  # older files leave it out, and the default of Keras 3 is True
    return found


def name_in_file(class_name: str, name: str) -> str:
    """Return the Keras 2 name of a constructor argument of Keras 3; many arguments have the same name in both.

    Args:
        class_name: The class in Keras 3.
        name: The name of the argument in Keras 3.
    """
    old = (key.partition(".")[2] for key, new in _NAMES.items() if key.startswith(f"{class_name}.") and new == name)
    return next(old, name)


def is_without_effect(name: str, value: Any) -> bool:
    """Return True if an argument that Keras 3 no longer has can be left out, because its value changes nothing."""
    known = _WITHOUT_EFFECT.get(name, ())
    return _ANY in known or any(value is one or (type(value) is type(one) and value == one) for one in known)


def changed_meaning(class_name: str, settings: Config, version: str, *, is_of_tensorflow_2: bool = False) -> str:
    """Describe how Keras 3 computes a layer differently from the version of Keras that wrote it; "" for no difference.

    Args:
        class_name: The name of the class in Keras 3.
        settings: The arguments of the layer, as `settings` returns them.
        version: The version that wrote the file, such as "2.3.1". Up to 2.3, versions of TensorFlow's own Keras end
            in "-tf".
        is_of_tensorflow_2: Whether something else in the file proves that TensorFlow 2 wrote it.
    """
    old = version.startswith(("1.", "2.0.", "2.1.", "2.2.", "2.3."))
    in_tensorflow_2 = version.endswith("-tf") and not version.startswith("2.1.")
    if old and class_name == "UpSampling2D" and settings.get("interpolation") == "bilinear":
        if not in_tensorflow_2:
            return f"Keras {version} aligned bilinear interpolation at the corners of the pixels, not at their centres"
        if version.startswith("2.2.") and not is_of_tensorflow_2:
            return (
                f"Keras {version} is part of TensorFlow 1.13 to 2.1, whose bilinear interpolations differ: the file "
                "does not store the version of TensorFlow"
            )
    return ""


def policy_of(value: Any) -> Any:
    """Return the name in a serialised dtype policy, such as "mixed_float16"; return any other value unchanged.

    Args:
        value: The dtype of a layer in the file: a name, a serialised policy (a dict), or None.
    """
    config = value.get("config") if isinstance(value, dict) else None
    return config.get("name", value) if isinstance(config, dict) else value


def unwrapped(nested: Any) -> Any:
    """Return the only element of a list with one element, as Keras 2 does; return other values unchanged."""
    return nested[0] if isinstance(nested, list) and len(nested) == 1 else nested
