"""Move a model between PyTorch and Keras 3, in either direction, and prove that nothing changed.

    import keras3conv as k3c

    plan = k3c.align(module, "model.h5")            # which tensor belongs where; print it, edit it, save it
    k3c.transfer("model.h5", module, plan)          # all or nothing; the direction follows from the arguments
    k3c.validate(module, "model.h5").raise_if_failed()

The import costs next to nothing: what a function needs is imported when it is first used.
"""

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from keras3conv.alignment import Alignment, Evidence, Ignored, Pair
    from keras3conv.api import align, compare_onnx, convert, transfer, validate, view
    from keras3conv.api_ordered import align_ordered
    from keras3conv.builder.conversion import Conversion
    from keras3conv.compare import Diff, Tolerance, compare
    from keras3conv.errors import Keras3ConvError
    from keras3conv.report import Report, Section
    from keras3conv.rule import Example, LayerSpec, Rule, WeightMapping, register, rules

__version__ = "0.1.0"

__all__ = [
    "Alignment",
    "Conversion",
    "Diff",
    "Evidence",
    "Example",
    "Ignored",
    "Keras3ConvError",
    "LayerSpec",
    "Pair",
    "Report",
    "Rule",
    "Section",
    "Tolerance",
    "WeightMapping",
    "align",
    "align_ordered",
    "compare",
    "compare_onnx",
    "convert",
    "register",
    "rules",
    "transfer",
    "validate",
    "view",
]

_HOMES = {
    "alignment": ("Alignment", "Evidence", "Ignored", "Pair"),
    "api": ("align", "compare_onnx", "convert", "transfer", "validate", "view"),
    "api_ordered": ("align_ordered",),
    "builder.conversion": ("Conversion",),
    "compare": ("Diff", "Tolerance", "compare"),
    "errors": ("Keras3ConvError",),
    "report": ("Report", "Section"),
    "rule": ("Example", "LayerSpec", "Rule", "WeightMapping", "register", "rules"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module 'keras3conv' has no attribute {name!r}")
    # From the module's namespace: a public function may have the name of a module (compare, rules).
    value = vars(import_module(f"keras3conv.{_HOME_OF[name]}"))[name]
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])


class _Package(ModuleType):
    """Keeps the public functions that have the name of a module of the package, which Python binds on its import."""

    def __setattr__(self, name: str, value: Any) -> None:
        if not (name in _HOME_OF and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
