"""What `convert` returns: the module, the text that it is made of, the plan, and the proof."""

from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import Any

from keras3conv.alignment.plan import Alignment
from keras3conv.builder.program.program import Program
from keras3conv.model.graph import Graph
from keras3conv.report.report import Report
from keras3conv.report.values import WrittenFile
from keras3conv.transforms import Array


@dataclass(frozen=True, kw_only=True)
class Conversion:
    """A torch module that was made from a Keras model.

    Attributes:
        model: The module: an instance of the `Model` of `source`, with the weights, in evaluation mode.
        source: The text of `model.py`.
        alignment: Which tensor of the module is which of the Keras model.
        report: The certificate, or None where `validate=False` was said.
        graph: The architecture as it was read.
        program: The architecture as it was written.
        inputs: What the module was called with for the proof.
    """

    model: Any = field(repr=False)
    source: str = field(repr=False)
    alignment: Alignment = field(repr=False)
    report: Report | None = field(repr=False)
    graph: Graph = field(repr=False)
    program: Program = field(repr=False)
    inputs: tuple[Array, ...] = field(repr=False)

    def save(self, folder: str | PathLike[str], *, overwrite: bool = False) -> tuple[WrittenFile, ...]:
        """Writes `model.py`, `weights.safetensors`, `metadata.json` and `report.html`; all of it or nothing.

        In a process with torch and safetensors alone:

            from model import Model
            from safetensors.torch import load_file

            model = Model()
            model.load_state_dict(load_file("weights.safetensors"))

        Args:
            folder: The folder; its parent must be there.
            overwrite: Whether a folder that exists is replaced, with everything in it.

        Raises:
            FileError: The folder exists, or cannot be written; what was there is as it was.
        """
        from keras3conv.builder.saving import save

        return save(self, Path(folder), overwrite=overwrite)
