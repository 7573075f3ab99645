"""What Keras calls its layers and their variables, as tables: a file of weights has numbers where a model has names.

Keras itself is not imported, so a class that it gains later is unknown here until it is added.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from keras3conv.transforms import Shape

DOUBLED = "_layer_checkpoint_dependencies"
"""The group of a model's layers in an archive of Keras 2.13, which lists a layer with weights twice."""

_KERNEL = ("kernel", "bias")
_SEPARABLE = ("depthwise_kernel", "pointwise_kernel", "bias")
_RECURRENT = ("kernel", "recurrent_kernel", "bias")
_AFFINE = ("gamma", "beta")

_ROLES: dict[str, tuple[str, ...]] = {
    "Dense": _KERNEL,
    "EinsumDense": _KERNEL,
    "Conv1D": _KERNEL,
    "Conv2D": _KERNEL,
    "Conv3D": _KERNEL,
    "Conv1DTranspose": _KERNEL,
    "Conv2DTranspose": _KERNEL,
    "Conv3DTranspose": _KERNEL,
    "DepthwiseConv1D": _KERNEL,
    "DepthwiseConv2D": _KERNEL,
    "SeparableConv1D": _SEPARABLE,
    "SeparableConv2D": _SEPARABLE,
    "BatchNormalization": ("gamma", "beta", "moving_mean", "moving_variance"),
    "LayerNormalization": _AFFINE,
    "GroupNormalization": _AFFINE,
    "RMSNormalization": ("scale",),
    "Normalization": ("mean", "variance", "count"),
    "Embedding": ("embeddings",),
    "PReLU": ("alpha",),
    "LSTMCell": _RECURRENT,
    "GRUCell": _RECURRENT,
    "SimpleRNNCell": _RECURRENT,
    "ConvLSTMCell": _RECURRENT,
    "Attention": ("scale", "concat_score_weight"),
    "AdditiveAttention": ("scale",),
    "STFTSpectrogram": ("real_kernel", "imag_kernel"),
}
"""The variables of a class, in the order in which it creates and saves them."""

_SWITCHES = {"bias": "use_bias", "gamma": "scale", "beta": "center", "concat_score_weight": "score_mode"}
"""The argument without which a variable is not created."""

_CLASS_SWITCHES = {("Attention", "scale"): "use_scale", ("AdditiveAttention", "scale"): "use_scale"}
"""The same where another class always has a variable of this name."""

_OFF = (False, "dot")
"""The values of these arguments that create none."""

_AMBIGUOUS = {
    ("Attention", 1),
    ("BatchNormalization", 3),
    ("LayerNormalization", 1),
    ("GroupNormalization", 1),
    ("Normalization", 2),
}
"""Classes and counts of variables where it takes the configuration to tell which one is missing."""

_PARTIAL = {("BatchNormalization", 2): ("moving_mean", "moving_variance")}

_CHILDREN: dict[tuple[str, str], str] = {
    ("LSTM", "cell"): "LSTMCell",
    ("GRU", "cell"): "GRUCell",
    ("SimpleRNN", "cell"): "SimpleRNNCell",
    **{(f"ConvLSTM{rank}D", "cell"): "ConvLSTMCell" for rank in (1, 2, 3)},
    **{
        (attention, f"{projection}_dense"): "EinsumDense"
        for attention in ("MultiHeadAttention", "GroupQueryAttention")
        for projection in ("query", "key", "value", "gate", "output")
    },
    **{(attention, "_softmax"): "Softmax" for attention in ("MultiHeadAttention", "GroupQueryAttention")},
    **{(attention, "_dropout_layer"): "Dropout" for attention in ("MultiHeadAttention", "GroupQueryAttention")},
}
"""The class of the layer that a layer of Keras keeps in an attribute."""

_WITHOUT_VARIABLES: list[str] = re.findall(
    r"\w+",
    """
Activation ActivityRegularization Add AlphaDropout Average AveragePooling1D AveragePooling2D
AveragePooling3D AdaptiveAveragePooling1D AdaptiveAveragePooling2D AdaptiveAveragePooling3D AdaptiveMaxPooling1D
AdaptiveMaxPooling2D AdaptiveMaxPooling3D Bidirectional CategoryEncoding CenterCrop Concatenate ConvLSTM1D ConvLSTM2D
ConvLSTM3D Cropping1D Cropping2D Cropping3D Discretization Dot Dropout ELU Flatten GRU GaussianDropout GaussianNoise
GlobalAveragePooling1D GlobalAveragePooling2D GlobalAveragePooling3D GlobalMaxPooling1D GlobalMaxPooling2D
GlobalMaxPooling3D GroupQueryAttention Identity InputLayer LSTM Lambda LeakyReLU Masking MaxPooling1D MaxPooling2D
MaxPooling3D Maximum MelSpectrogram Minimum MultiHeadAttention Multiply Permute RNN ReLU RandomBrightness RandomContrast
RandomCrop RandomFlip RandomRotation RandomTranslation RandomZoom RepeatVector Rescaling Reshape Resizing SimpleRNN
Softmax SpatialDropout1D SpatialDropout2D SpatialDropout3D SpectralNormalization StackedRNNCells Subtract
TimeDistributed UnitNormalization UpSampling1D UpSampling2D UpSampling3D ZeroPadding1D ZeroPadding2D ZeroPadding3D
""",
)

_NOT_TRAINABLE = frozenset({"moving_mean", "moving_variance", "mean", "variance", "count", "seed_generator_state"})


def snake_case(name: str) -> str:
    """The name that Keras gives to a layer of a class: "Conv2DTranspose" becomes "conv2d_transpose"."""
    name = re.sub(r"\W+", "", name)
    name = re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub(r"([a-z])([A-Z])", r"\1_\2", name).lower()


_BY_SNAKE = {snake_case(name): name for name in (*_ROLES, *_WITHOUT_VARIABLES)}
_BY_SNAKE.update(functional="Functional", sequential="Sequential", model="Model")
_BY_SNAKE["grouped_query_attention"] = "GroupQueryAttention"  # Keras names groups by the class, which has another name


def class_of(snake: str) -> str:
    """The class whose layers get such a name: "batch_normalization_3" is of "BatchNormalization"; empty if unknown."""
    return _BY_SNAKE.get(snake) or _BY_SNAKE.get(re.sub(r"_\d+$", "", snake), "")


def attribute_of(name: str) -> str:
    """The attribute in which a layer of Keras keeps the part that it gave this name."""
    if name.startswith(("forward_", "backward_")):
        return f"{name.partition('_')[0]}_layer"
    if name.endswith("_cell"):
        return "cell"
    return {"attention_output": "output_dense"}.get(
        name, f"{name}_dense" if name in ("query", "key", "value", "gate") else name
    )


def child_class(parent: str, attribute: str) -> str:
    """The class of the layer that a layer of class `parent` keeps in an attribute; empty if unknown."""
    return _CHILDREN.get((parent, attribute.removeprefix("_"))) or _CHILDREN.get((parent, attribute), "")


def qualified(name: str, module: str = "") -> str:
    """The qualified name of a class, as rules use it: "keras.layers.Conv2D", "keras.Sequential"."""
    if not name:
        return ""
    if module and not module.startswith("keras."):
        return name if ">" in name and module == "builtins" else f"{module}.{name}"
    if ">" in name:
        return name
    return f"keras.{name}" if name in {"Functional", "Sequential", "Model"} else f"keras.layers.{name}"


def roles(name: str, shapes: Sequence[Shape], config: Mapping[str, Any] | None = None) -> tuple[str, ...]:
    """The names of a layer's variables, given in the order in which Keras saves them.

    Args:
        name: The class, without its module; empty if unknown.
        shapes: The shapes of the variables.
        config: The configuration of the layer, if it is known: it says which variables are switched off.

    Returns:
        One name for every shape; numbers where the names cannot be known.
    """
    count = len(shapes)
    known = _ROLES.get(name, ())
    if config is not None:
        known = tuple(role for role in known if config.get(_switch(name, role), True) not in _OFF)
    elif (name, count) in _AMBIGUOUS:
        known = ()
    else:
        known = _PARTIAL.get((name, count)) or _without_bias(known, count)
    return known if len(known) == count else tuple(str(number) for number in range(count))


def creates(name: str, roles_found: Sequence[str]) -> bool:
    """Whether a class creates variables with these names, and none that are missing cannot be switched off."""
    known = _ROLES.get(name, ())
    missing = set(known) - set(roles_found)
    return bool(known) and set(roles_found) <= set(known) and all(_switch(name, role) for role in missing)


def _switch(name: str, role: str) -> str:
    return _CLASS_SWITCHES.get((name, role)) or _SWITCHES.get(role, "")


def _without_bias(known: tuple[str, ...], count: int) -> tuple[str, ...]:
    """The bias comes last, and is the one variable that is often missing."""
    return known[:-1] if known[-1:] == ("bias",) and count == len(known) - 1 else known


def is_trainable(role: str) -> bool:
    """Whether an optimiser would change a variable with this role, as far as the role tells."""
    return role not in _NOT_TRAINABLE
