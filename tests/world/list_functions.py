"""List the functions that TensorFlow 2.15 turns into layers of a model (`TFOpLambda`): `python list_functions.py`.

A function is one if a dispatcher may take it for symbolic tensors; the layer stores its canonical name.
"""

from pathlib import Path
from types import ModuleType
from typing import Any

import tensorflow as tf
from tensorflow.python.util import dispatch, tf_export

FALLBACK = dispatch.FALLBACK_DISPATCH_ATTR
LISTED = Path(__file__).resolve().parent / "tensorflow_functions.txt"


def functions(module: Any, seen: set[int], found: set[str]) -> None:
    """Collect the canonical names of the functions in a module and the modules in it."""
    seen.add(id(module))
    for name in dir(module):
        value = getattr(module, name, None)
        if isinstance(value, ModuleType):
            if value.__name__.startswith("tensorflow._api.v2.v2") and id(value) not in seen:
                functions(value, seen, found)
        elif callable(value) and hasattr(value, FALLBACK):
            canonical = tf_export.get_canonical_name_for_symbol(value, add_prefix_to_v1_names=True)
            if canonical:
                found.add(canonical)


if __name__ == "__main__":
    names: set[str] = set()
    visited: set[int] = set()
    functions(tf, visited, names)
    for part in ("math", "nn", "image", "linalg", "signal", "strings", "random", "sparse", "bitwise", "quantization"):
        functions(getattr(tf, part), visited, names)
    LISTED.write_text("\n".join(sorted(names)) + "\n")
