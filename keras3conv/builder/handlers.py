"""The modules that register handlers."""

from importlib import import_module

FILES = (
    "operations_activation",
    "operations_arithmetic",
    "operations_attention",
    "operations_constant",
    "operations_creation",
    "operations_image",
    "operations_index",
    "operations_join",
    "operations_layers",
    "operations_merge",
    "operations_pointwise",
    "operations_pooling",
    "operations_products",
    "operations_recurrent",
    "operations_reduction",
    "operations_refused",
    "operations_shape",
)
"""Every module with handlers; add new ones here."""


def load() -> None:
    """Import the modules with handlers, which register themselves; later calls do nothing."""
    for name in FILES:
        import_module(f"keras3conv.builder.{name}")
