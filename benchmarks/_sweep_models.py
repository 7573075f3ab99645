"""Models for the sweep of a hundred: `rule_12`, `text_3` and `app_5` are made when they are asked for, by place.

A pair is made once in a process: its torch side is `rule_12_torch`, its Keras side `rule_12_keras`.
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
"""Models of keras.applications that are small with small images, with their options."""


def __getattr__(name: str) -> Callable[[], Any]:
    kind, _, rest = name.partition("_")
    place, _, side = rest.partition("_")
    if kind == "app" and place.isdigit():
        return partial(application, int(place))
    if kind in ("rule", "text") and place.isdigit() and side in ("torch", "keras"):
        return partial(side_of, kind, int(place), side)
    raise AttributeError(name)


def application(place: int) -> Any:
    """A model of keras.applications with random weights, for images of 32 by 32."""
    import keras

    name, options = APPLICATIONS[place]
    return getattr(keras.applications, name)(weights=None, input_shape=(32, 32, 3), classes=10, **options)


def side_of(kind: str, place: int, side: str) -> Any:
    """One side of a pair."""
    return getattr(pair_of(kind, place), side)


@cache
def pair_of(kind: str, place: int) -> Any:
    """The pair of an example of a rule, or of a model of transformers and one of keras-hub."""
    if kind == "rule":
        from keras3conv.rules.library import list_rules
        from tests.support.pairs import make_pair

        return make_pair(list_rules()[place], 0)
    from benchmarks._fidelity_text import ENTRIES

    return ENTRIES[place].build()


def leaves_without_a_word() -> Any:
    """Ends the process."""
    os._exit(0)


def aborts() -> Any:
    """Ends the process as an assertion in C does."""
    os.abort()


def reads_nowhere() -> Any:
    """Reads memory that is not there."""
    ctypes.string_at(0)


def kills_itself() -> Any:
    """Ends the process as the system does when memory is short."""
    os.kill(os.getpid(), signal.SIGKILL)


def never_ends() -> Any:
    """Waits."""
    while True:
        time.sleep(60)


def grows() -> Any:
    """Takes memory until it is stopped."""
    held = []
    while True:
        held.append(bytearray(b"x" * 20_000_000))


def raises() -> Any:
    """Has a mistake in its code."""
    raise ZeroDivisionError("a mistake in the model")


def reads_a_missing_file() -> Any:
    """Opens a file that is not there."""
    return Path("weights-that-nobody-has.bin").read_bytes()


def is_no_model() -> Any:
    """Returns something else than a model."""
    return {"a": "dict"}


def wrong_weights() -> Any:
    """The Keras side of a pair with one weight that is slightly off."""
    model = pair_of("rule", planted_place()).keras
    variable = model.trainable_variables[0]
    variable.assign(variable + 1e-3)
    return model


@cache
def planted_place() -> int:
    """The place of the rule whose pair is spoiled."""
    from keras3conv.rules.library import list_rules

    return next(place for place, rule in enumerate(list_rules()) if rule.keras == "keras.layers.Dense")
