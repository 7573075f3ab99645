"""Convert the serialised NumPy and TensorFlow values in an architecture of Keras 2 to plain JSON values."""

from collections.abc import Mapping
from typing import Any

_WITH_ITEMS = frozenset({"__tuple__", "TensorShape"})
_WITH_VALUE = frozenset({"__numpy__", "__tensor__"})


def plain_values(value: Any) -> Any:
    """Return nested values with serialised NumPy scalars, arrays, tensors, tuples and functions as plain values.

    Keras 2 wrote `numpy.float32(0.3)` as {"type": "float32", "value": 0.3} or, in `.keras` archives, as
    {"class_name": "__numpy__", "config": {"value": 0.3, "dtype": "float32"}}.
    """
    if isinstance(value, list):
        return [plain_values(item) for item in value]
    if not isinstance(value, dict):
        return value
    if set(value) == {"type", "value"}:
        return plain_values(value["value"])
    class_name, config = value.get("class_name"), value.get("config")
    if class_name in _WITH_ITEMS and "items" in value:
        return plain_values(value["items"])
    if class_name in _WITH_VALUE and isinstance(config, Mapping) and "value" in config:
        return plain_values(config["value"])
    if class_name == "function" and isinstance(config, str):
        return config
    return {name: plain_values(item) for name, item in value.items()}
