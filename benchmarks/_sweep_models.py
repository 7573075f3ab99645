"""Define factories for the sweep of a hundred models: `rule_12`, `text_3` and `app_5` are created on first access.

A pair is created once per process: its torch side is `rule_12_torch`, its Keras side `rule_12_keras`.
"""

import ctypes
import os
import signal
import time
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

APPLICATIONS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("MobileNet", {"alpha": 0.25}),
    ("MobileNet", {"alpha": 0.5}),
    ("MobileNetV2", {"alpha": 0.35}),
    ("MobileNetV3Small", {"alpha": 0.75, "minimalistic": True}),
)
"""Small models of keras.applications, with their options."""


def __getattr__(name: str) -> Callable[[], Any]:
    kind, _, rest = name.partition("_")
    place, _, side = rest.partition("_")
    if kind == "app" and place.isdigit():
        return partial(application, int(place))
    if kind in ("rule", "text") and place.isdigit() and side in ("torch", "keras"):
        return partial(side_of, kind, int(place), side)
    raise AttributeError(name)


def application(place: int) -> Any:
    """Return a model of keras.applications with random weights, for images of 32 by 32 pixels."""
    import keras

    name, options = APPLICATIONS[place]
    return getattr(keras.applications, name)(weights=None, input_shape=(32, 32, 3), classes=10, **options)


def side_of(kind: str, place: int, side: str) -> Any:
    """Return one model of a pair; `side` is "torch" or "keras"."""
    return getattr(pair_of(kind, place), side)


@cache
def pair_of(kind: str, place: int) -> Any:
    """Return the pair for an example of a rule, or of a transformers model and a keras-hub model."""
    if kind == "rule":
        import keras

        from keras3conv.rules.library import list_rules
        from tests.support.pairs import make_pair

        keras.utils.clear_session()  # reset the layer names, as in a process that creates only this pair
        return make_pair(list_rules()[place], 0)
    from benchmarks._fidelity_text import ENTRIES

    return ENTRIES[place].build()


def leaves_without_a_word() -> Any:
    """End the process without a message."""
    os._exit(0)


def aborts() -> Any:
    """Abort the process as a failed assertion in C does."""
    os.abort()


def reads_nowhere() -> Any:
    """Read from an invalid memory address, which kills the process."""
    ctypes.string_at(0)


def kills_itself() -> Any:
    """Kill the process as the system does when memory runs out."""
    os.kill(os.getpid(), signal.SIGKILL)


def never_ends() -> Any:
    """Never return, to test the time limit."""
    while True:
        time.sleep(60)


def grows() -> Any:
    """Allocate memory without end, to test the memory limit."""
    held = []
    while True:
        held.append(bytearray(b"x" * 20_000_000))


def raises() -> Any:
    """Raise an exception from a mistake in the code."""
    raise ZeroDivisionError("a mistake in the model")


def reads_a_missing_file() -> Any:
    """Open a file that does not exist."""
    return Path("weights-that-nobody-has.bin").read_bytes()


def is_no_model() -> Any:
    """Return an object that is not a model."""
    return {"a": "dict"}


def wrong_weights() -> Any:
    """Return the Keras side of a pair with one slightly changed weight."""
    model = pair_of("rule", planted_place()).keras
    variable = model.trainable_variables[0]
    variable.assign(variable + 1e-3)
    return model


@cache
def planted_place() -> int:
    """Return the index in `list_rules()` of the rule for `Dense`, in whose example `wrong_weights` changes a weight."""
    from keras3conv.rules.library import list_rules

    return next(place for place, rule in enumerate(list_rules()) if rule.keras == "keras.layers.Dense")
