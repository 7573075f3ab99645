"""What `convert` returns: the module, the text that it is made of, the plan, and the proof."""

from dataclasses import dataclass, field
from typing import Any

from keras3conv.alignment import Alignment
from keras3conv.builder.program import Program
from keras3conv.graph import Graph
from keras3conv.report import Report
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
