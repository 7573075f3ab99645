"""List the torch modules that `bench_convert --to keras` converts: small, with random weights and inputs."""

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

SOURCES = ("vision", "text", "own")


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """A row of the table.

    Attributes:
        name: The name of the row.
        build: A function that returns the module and its inputs.
        kind: The group of the row: "classification", "segmentation", "optical flow", "video", "encoder", "decoder",
            "encoder-decoder", "vision", "audio", "recurrent", "generative".
    """

    name: str
    build: Callable[[], tuple[Any, Any]]
    kind: str


def architectures() -> dict[str, Architecture]:
    """Return every architecture by name; to add one, add an entry to a list in a file `_zoo_*.py`."""
    modules = [importlib.import_module(f"benchmarks._zoo_{source}") for source in SOURCES]
    return {entry.name: entry for module in modules for entry in module.ENTRIES}
