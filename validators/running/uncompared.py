"""List the arguments of Keras layers that the proof `hyperparameters` does not compare, because torch lacks them.

The report of `validate` lists them.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from keras3conv.alignment.audit import FieldPair
from keras3conv.model.paths import split_layers
from keras3conv.rules.fixed import with_inner_layer
from keras3conv.validators.running.subject import Subject

_NAMED_IN_THE_CLAIM = ("initializer", "unit_forget_bias", "regularizer", "constraint", "dtype")
_WITHOUT_EFFECT = ("name", "trainable", "batch_input_shape", "batch_shape", "input_shape", "activation")
"""The arguments that change no result: "activation" is one if it was not compared, because it is then "linear"."""
_WRAPPED = ("layer", "backward_layer", "cell", "cells")


def uncompared(subject: Subject, fields: Sequence[FieldPair]) -> dict[str, str]:
    """Return a line for the report with the Keras arguments that were not compared: {"not compared": "Conv2D: groups"}.

    Args:
        subject: The two models.
        fields: The hyper-parameters that were compared.
    """
    compared: dict[str, set[str]] = {}
    for field in fields:
        compared.setdefault(field.keras, set()).add(field.keras_field.rpartition(".")[2])
    left: dict[str, dict[str, None]] = {}
    for paths, names in compared.items():
        for layer in (subject.keras_layers[path] for path in split_layers(paths) if path in subject.keras_layers):
            kind = layer.kinds[0].rpartition(".")[2]
            for name in _arguments(layer.config or {}):
                if name not in names:
                    left.setdefault(kind, {})[name] = None
    listed = "; ".join(f"{kind}: {', '.join(names)}" for kind, names in left.items())
    return (
        {"not compared": f"{listed}; torch has no argument for these, and float64 judges what they do"}
        if listed
        else {}
    )


def _arguments(config: Mapping[str, Any]) -> Iterator[str]:
    """Yield the names of the constructor arguments in `config` that may change the results of the layer."""
    for name, value in with_inner_layer(config).items():
        argument = name.rpartition(".")[2]
        if (
            value is not None
            and argument not in (*_WITHOUT_EFFECT, *_WRAPPED)
            and not argument.endswith(_NAMED_IN_THE_CLAIM)
        ):
            yield argument
