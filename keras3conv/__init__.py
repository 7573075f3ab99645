"""Move a model between PyTorch and Keras 3, in either direction, and prove that nothing changed.

    import keras3conv as k3c

    plan = k3c.align(module, "model.h5")            # which tensor belongs where; print it, edit it, save it
    k3c.transfer("model.h5", module, plan)          # all or nothing; the direction follows from the arguments
    k3c.validate(module, "model.h5").raise_if_failed()

The import is fast: a function imports its dependencies on first use.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from keras3conv.alignment.pair import Evidence, Ignored, Pair
    from keras3conv.alignment.plan import Alignment
    from keras3conv.api import align, compare_onnx, convert, transfer, validate, verify
    from keras3conv.builder.conversion import Conversion
    from keras3conv.errors import Keras3ConvError
    from keras3conv.frameworks.sides import view
    from keras3conv.numerics.difference import Diff, compare
    from keras3conv.numerics.judgement import Tolerance
    from keras3conv.report.report import Report
    from keras3conv.report.values import Section
    from keras3conv.rules.library import list_rules
    from keras3conv.rules.registry import register
    from keras3conv.rules.rule import Example, LayerSpec, Rule, WeightMapping
    from keras3conv.workflows.ordered import align_ordered
    from keras3conv.workflows.sweep.run import sweep

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
    "list_rules",
    "register",
    "sweep",
    "transfer",
    "validate",
    "verify",
    "view",
]

_MODULE_OF = {
    "Alignment": "alignment.plan",
    "Conversion": "builder.conversion",
    "Diff": "numerics.difference",
    "Evidence": "alignment.pair",
    "Example": "rules.rule",
    "Ignored": "alignment.pair",
    "Keras3ConvError": "errors",
    "LayerSpec": "rules.rule",
    "Pair": "alignment.pair",
    "Report": "report.report",
    "Rule": "rules.rule",
    "Section": "report.values",
    "Tolerance": "numerics.judgement",
    "WeightMapping": "rules.rule",
    "align": "api",
    "align_ordered": "workflows.ordered",
    "compare": "numerics.difference",
    "compare_onnx": "api",
    "convert": "api",
    "list_rules": "rules.library",
    "register": "rules.registry",
    "sweep": "workflows.sweep.run",
    "transfer": "api",
    "validate": "api",
    "verify": "api",
    "view": "frameworks.sides",
}
"""The module that defines each public name; it is imported when the name is first used."""


_MODULES = ("errors", "transforms")
"""The modules that are used as `k3c.transforms`; they are imported when first used, too."""


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return import_module(f"keras3conv.{name}")
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'keras3conv' has no attribute {name!r}")
    value = getattr(import_module(f"keras3conv.{_MODULE_OF[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*(name for name in globals() if name.startswith("__")), *__all__])
