"""Define the names that Keras gives to layers and variables; weight files identify variables only by numbers.

The names are in tables, because Keras is not imported here. A new Keras class is unknown until it is added.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from keras3conv.transforms import Shape

DOUBLED = "_layer_checkpoint_dependencies"
"""The name of a group in archives of Keras 2.13, which list a layer with weights twice; this group is the copy."""

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
"""The names of the variables of a class, in the order in which the class creates and saves them."""

_SWITCHES = {"bias": "use_bias", "gamma": "scale", "beta": "center", "concat_score_weight": "score_mode"}
"""For each variable name, the constructor argument that controls whether the variable exists: "bias", "use_bias"."""

_CLASS_SWITCHES = {
    ("Attention", "scale"): "use_scale",
    ("AdditiveAttention", "scale"): "use_scale",
    ("EinsumDense", "bias"): "bias_axes",
}
"""The same controlling arguments for variables that only some classes can omit, by class and variable name."""

_OFF = (False, None, "dot")
"""The values of the controlling arguments (such as use_bias) with which the variable is not created."""

_AMBIGUOUS = {
    ("Attention", 1),
    ("BatchNormalization", 3),
    ("LayerNormalization", 1),
    ("GroupNormalization", 1),
    ("Normalization", 2),
}
"""Pairs of a class and a number of variables, for which only the configuration tells which variable is missing."""

_PARTIAL = {("BatchNormalization", 2): ("moving_mean", "moving_variance")}

_MORE = {"BatchNormalization": ("moving_stddev", "renorm_mean", "renorm_stddev")}
"""The variables that a class has with some settings, after the others: those of Keras 2 with renorm=True."""

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
"""The class of a sublayer, by the class of the outer layer and the attribute: ("LSTM", "cell") gives "LSTMCell"."""

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

NOT_TRAINABLE = frozenset({
    "moving_mean", "moving_variance", "mean", "variance", "count", "seed_generator_state", *_MORE["BatchNormalization"],
})  # fmt: skip
"""The names of the variables that no optimizer changes: moving statistics and seeds."""


def snake_case(name: str) -> str:
    """Return the default name of a layer of a class: "conv2d_transpose" for "Conv2DTranspose"."""
    name = re.sub(r"\W+", "", name)
    name = re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub(r"([a-z])([A-Z])", r"\1_\2", name).lower()


_BY_SNAKE = {snake_case(name): name for name in (*_ROLES, *_WITHOUT_VARIABLES)}
_BY_SNAKE.update(functional="Functional", sequential="Sequential", model="Model")
_BY_SNAKE["grouped_query_attention"] = "GroupQueryAttention"  # its default name differs from its public name


def class_of(snake: str) -> str:
    """Return the class for a default layer name: "BatchNormalization" for "batch_normalization_3"; empty if unknown."""
    if found := _BY_SNAKE.get(snake):
        return found
    name = snake.rstrip("0123456789")
    return _BY_SNAKE.get(name[:-1], "") if name != snake and name.endswith("_") else ""


def attribute_of(name: str) -> str:
    """Return the attribute in which a Keras layer holds a sublayer of this default name: "cell" for "lstm_cell"."""
    if name.startswith(("forward_", "backward_")):
        return f"{name.partition('_')[0]}_layer"
    if name.endswith("_cell"):
        return "cell"
    if name == "attention_output":
        return "output_dense"
    return f"{name}_dense" if name in ("query", "key", "value", "gate") else name


def child_class(parent: str, attribute: str) -> str:
    """Return the class of a sublayer: "LSTMCell" for the attribute "cell" of the class "LSTM"; "" if unknown."""
    return _CHILDREN.get((parent, attribute.removeprefix("_"))) or _CHILDREN.get((parent, attribute), "")


def qualified(name: str, module: str = "") -> str:
    """Return the qualified name of a class, as in rules: "keras.layers.Conv2D", "keras.Sequential".

    Args:
        name: The class name in a file.
        module: The module in the file; empty if it is not stored.
    """
    if not name:
        return ""
    if module and not module.startswith("keras."):
        return name if ">" in name and module == "builtins" else f"{module}.{name}"
    if ">" in name:
        return name
    return f"keras.{name}" if name in {"Functional", "Sequential", "Model"} else f"keras.layers.{name}"


def roles(name: str, shapes: Sequence[Shape], config: Mapping[str, Any] | None = None) -> tuple[str, ...]:
    """Return the names of a layer's variables, in the order in which Keras saves them.

    Args:
        name: The class, without its module; empty if unknown.
        shapes: The shapes of the variables.
        config: The configuration of the layer, from which the missing variables follow; None if unknown.

    Returns:
        One name for every shape; the numbers "0", "1", ... if the names are unknown.
    """
    count = len(shapes)
    known = _ROLES.get(name, ())
    if config is not None:
        known = tuple(role for role in known if config.get(_switch(name, role), True) not in _OFF)
    elif (name, count) in _AMBIGUOUS:
        known = ()
    else:
        known = _PARTIAL.get((name, count)) or _without_bias(known, count)
    more = _MORE.get(name, ())
    known = (*known, *more) if known and count == len(known) + len(more) else known
    return known if len(known) == count else tuple(str(number) for number in range(count))


def creates(name: str, roles_found: Sequence[str]) -> bool:
    """Return True if a class can create variables with exactly these names."""
    known = _ROLES.get(name, ())
    missing = set(known) - set(roles_found)
    return (
        bool(known)
        and set(roles_found) <= {*known, *_MORE.get(name, ())}
        and all(_switch(name, role) for role in missing)
    )


def _switch(name: str, role: str) -> str:
    return _CLASS_SWITCHES.get((name, role)) or _SWITCHES.get(role, "")


def _without_bias(known: tuple[str, ...], count: int) -> tuple[str, ...]:
    """Return the variable names of a class, without the bias (the last) if a layer has one variable fewer."""
    return known[:-1] if known[-1:] == ("bias",) and count == len(known) - 1 else known
