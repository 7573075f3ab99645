"""Rules for `keras.layers.RNN` with one cell, or several in `StackedRNNCells`, of a class that torch.nn has, too."""

from functools import partial
from typing import Any

from keras3conv.errors import RuleError
from keras3conv.rules.families.recurrent.cells import (
    KINDS,
    SUMMED,
    Kind,
    cell_config,
    cell_weights,
    inferred,
    lacking,
    torch_config,
)
from keras3conv.rules.families.recurrent.layers import layout_of, output_of
from keras3conv.rules.fixed import recurrent_settings
from keras3conv.rules.helpers.config import bound, last, paired, require_stateless, require_value
from keras3conv.rules.registry import register
from keras3conv.rules.rule import Config, Example, LayerSpec, LayerSpecs, Rule, WeightMapping

RNN = "keras.layers.RNN"
_STACK = "StackedRNNCells"


def cells_of(spec: LayerSpec) -> tuple[tuple[str, Config], ...]:
    """Return the cells of a Keras RNN: for each the prefix of its variables' names, and its serialised form.

    A weight file has no configuration; then the classes of the cells follow from the shapes.

    Raises:
        RuleError: The cells are unknown.
    """
    cell = spec.config.get("cell")
    if not cell and spec.config:
        raise RuleError(
            f"the cell of {spec.kind} is unknown, because the file or model gives no configuration of it"
            ": use the live model, or a file with the architecture (.keras)"
        )
    if not cell:
        return tuple((prefix, _cell_by_shapes(spec, prefix)) for prefix in _prefixes_in(spec))
    if cell["class_name"] != _STACK:
        return (("cell/", cell),)
    return tuple((f"cell/cells.{place}/", inner) for place, inner in enumerate(cell["config"]["cells"]))


def _prefixes_in(spec: LayerSpec) -> tuple[str, ...]:
    found = sum(role.endswith("/recurrent_kernel") for role in spec.shapes)
    if not found:
        raise RuleError(
            f"the cell of {spec.kind} is unknown, because the file or model gives no configuration of it"
            ": use the live model, or a file with the architecture (.keras)"
        )
    return prefixes(1 if "cell/recurrent_kernel" in spec.shapes else found)


def _cell_by_shapes(spec: LayerSpec, prefix: str) -> dict[str, Any]:
    """Return the serialised form of a cell, inferred from the shapes of its variables.

    Args:
        spec: The Keras RNN, with the shapes of its variables.
        prefix: The beginning of the names of the cell's variables, such as "cell/".
    """
    name, config = inferred(spec, prefix)
    return serialised(f"{name}Cell", config)


def rnn_config(cells: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the configuration of a Keras RNN with the given cells; several cells are put into StackedRNNCells."""
    if len(cells) == 1:
        return {"cell": cells[0]}
    return {"cell": serialised(_STACK, {"cells": cells})}


def serialised(name: str, config: Config) -> dict[str, Any]:
    """Return the dict that Keras stores for a layer or cell inside the configuration of another layer.

    Args:
        name: The class name, such as "LSTMCell".
        config: The constructor arguments.
    """
    return {"module": "keras.layers", "class_name": name, "config": dict(config), "registered_name": None}


def prefixes(number: int) -> tuple[str, ...]:
    """Return the beginnings of the variables' names for each cell of a Keras RNN: ("cell/",) for one cell.

    For several they are ("cell/cells.0/", "cell/cells.1/", ...).
    """
    return ("cell/",) if number == 1 else tuple(f"cell/cells.{place}/" for place in range(number))


def _to_keras(config: Config, *, kind: Kind) -> LayerSpecs:
    for name in ("proj_size", "dropout"):
        if config.get(name, 0):
            raise RuleError(
                f"{kind.torch} with {name}={config[name]} has no counterpart: Keras' StackedRNNCells has no such option"
                "; set it to 0"
            )
    cell = serialised(f"{kind.keras}Cell", cell_config(kind, config))
    keras = {**rnn_config([cell] * config["num_layers"]), "return_sequences": True}
    return (LayerSpec(kind=RNN, config=keras),)


def _to_torch(layers: LayerSpecs, *, kind: Kind) -> LayerSpecs:
    spec = last(layers)
    require_stateless(spec.kind, spec.config)
    require_value(spec.kind, "go_backwards", spec.config.get("go_backwards", False), False)
    configs = []
    for prefix, cell in cells_of(spec):
        require_value(spec.kind, "cell", cell["class_name"], f"{kind.keras}Cell")
        inner = LayerSpec(kind=f"keras.layers.{cell['class_name']}", config=cell["config"], shapes=spec.shapes)
        configs.append(torch_config(kind, inner, prefix))
    first, *others = configs
    for place, other in enumerate(others, 1):
        if other != {**first, "input_size": first["hidden_size"]}:
            raise RuleError(
                f"cell {place} of the StackedRNNCells differs from the first, but torch has one configuration for all "
                "of them"
                ": use one torch layer for each"
            )
    config = {**first, "num_layers": len(configs), "batch_first": True, "bidirectional": False, "dropout": 0.0}
    config |= {"proj_size": 0} if kind.torch == "LSTM" else {}
    return (LayerSpec(kind=f"torch.nn.{kind.torch}", config=config),)


def _weights(config: Config, *, kind: Kind) -> tuple[WeightMapping, ...]:
    number = config["num_layers"]
    return tuple(
        mapping for place, prefix in enumerate(prefixes(number)) for mapping in cell_weights(kind, f"_l{place}", prefix)
    )


def _examples(kind: Kind) -> tuple[Example, ...]:
    relu = {"nonlinearity": "relu"} if kind.torch == "RNN" else {}
    return (
        Example(
            config={"input_size": 3, "hidden_size": 5, "num_layers": 1, "batch_first": True, **relu},
            inputs=((2, 4, 3),),
        ),
        Example(config={"input_size": 3, "hidden_size": 5, "num_layers": 2, "batch_first": True}, inputs=((2, 4, 3),)),
        Example(
            config={"input_size": 6, "hidden_size": 4, "num_layers": 3, "bias": False},
            inputs=((4, 2, 6),),
            canonical=False,
        ),
    )


_NOTE = (
    "The cells must have the same class and size, without dropout between them. Keras has the batch axis first, and "
    "returns the sequence or its last step. From Keras to torch batch_first is set."
)

_FIELDS = ("input_size", "hidden_size", "bias", "batch_first", "bidirectional", "dropout")
_OWN_FIELDS = {"LSTM": ("proj_size",), "RNN": ("nonlinearity",)}

for _kind in KINDS:
    register(
        Rule(
            torch=f"torch.nn.{_kind.torch}",
            keras=RNN,
            fields=paired(*_FIELDS, *_OWN_FIELDS.get(_kind.torch, ()), num_layers="cell"),
            applies=lambda config: not config["bidirectional"],
            **bound(_weights, _to_keras, _to_torch, kind=_kind),
            fixed=partial(recurrent_settings, lacking=lacking(_kind)),
            returned=("return_sequences", "return_state"),
            layout=layout_of,
            output=output_of,
            examples=_examples(_kind),
            train=True,
            note=("" if _kind.torch == "GRU" else SUMMED) + _NOTE,
        )
    )
