"""List Keras arguments that the torch class lacks, each with the fixed value that the torch class computes with.

`torch.nn.GRU` has no argument for the activation of its gates, which is always the sigmoid. So the activation of a
Keras GRU is compared with "sigmoid". Torch has no dropout inside a recurrent layer: Keras' rate is compared with 0.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

Acts = Literal["always", "in training", "between calls"]
"""The scope of an argument: every output, training mode only, or the state at the start of the next call."""


@dataclass(frozen=True, kw_only=True)
class FixedSetting:
    """A Keras argument that the torch class lacks.

    Attributes:
        name: The name of the argument; for a layer inside a wrapper, with the path to it, such as "layer.dropout".
        value: The value that the Keras layer has.
        fixed: The value that the torch class always computes with.
        acts: When the argument has an effect: on every output, in training only, or on the state that the next call
            begins with.
    """

    name: str
    value: Any
    fixed: Any
    acts: Acts


Argument = tuple[str, Any, Acts]
"""The name of a Keras argument, the only value of it that torch computes with, and when the argument acts."""

RECURRENT: tuple[Argument, ...] = (
    ("activation", "tanh", "always"),
    ("recurrent_activation", "sigmoid", "always"),
    ("reset_after", True, "always"),
    ("go_backwards", False, "always"),
    ("stateful", False, "between calls"),
    ("dropout", 0.0, "in training"),
    ("recurrent_dropout", 0.0, "in training"),
)
"""The arguments of recurrent Keras layers and cells that torch's recurrent layers lack."""

DROPOUT_AND_STATE = tuple(argument for argument in RECURRENT if argument[2] != "always")
"""The arguments that the recurrent torch modules of keras3conv lack."""

_INSIDE = ("layer", "backward_layer", "cell")
"""The arguments of Keras wrappers that hold a serialised layer or cell."""


def recurrent_settings(config: Mapping[str, Any], *, lacking: tuple[Argument, ...]) -> Iterator[FixedSetting]:
    """Yield the arguments of a recurrent Keras layer, and of the layers inside it, that the torch class lacks.

    Args:
        config: The configuration of the Keras layer, which may be a `Bidirectional` or an `RNN`.
        lacking: The arguments that the torch class lacks, with the value that it always computes with.
    """
    yield from _settings(config, lacking, "", backwards=False)


def _settings(
    config: Mapping[str, Any], lacking: tuple[Argument, ...], prefix: str, *, backwards: bool
) -> Iterator[FixedSetting]:
    for name, fixed, acts in lacking:
        if name in config:
            wanted = backwards if name == "go_backwards" else fixed
            yield FixedSetting(name=f"{prefix}{name}", value=config[name], fixed=wanted, acts=acts)
    for name in _INSIDE:
        if inner := config.get(name):
            yield from _settings(inner["config"], lacking, f"{prefix}{name}.", backwards=name == "backward_layer")
    for place, cell in enumerate(config.get("cells") or ()):
        yield from _settings(cell["config"], lacking, f"{prefix}{place}.", backwards=False)


def with_inner_layer(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a Keras configuration in which the arguments of a wrapped layer are entries of their own: "layer.units".

    Args:
        config: The configuration of a Keras layer, for example of a `Bidirectional` or a `TimeDistributed`.
    """
    flat = dict(config)
    inner = flat.get("layer")
    if isinstance(inner, Mapping) and isinstance(inner.get("config"), Mapping):
        del flat["layer"]
        flat |= {f"layer.{name}": value for name, value in inner["config"].items()}
    return flat
