"""Define `Lowered`, the result of converting the call graph of a torch module to a Keras program."""

from collections.abc import Mapping
from dataclasses import dataclass

from keras3conv.builder.program.program import Program, Value
from keras3conv.builder.to_keras.layers import Placement
from keras3conv.errors import Problem


@dataclass(frozen=True, kw_only=True)
class Lowered:
    """A Keras program (a model as a list of statements), and the torch parameters of its layers.

    Attributes:
        program: The program.
        placements: Which torch tensors go into which variables of each Keras layer.
        problems: A problem for each call that cannot be converted; if there are any, the program is invalid.
        refused: The names of the torch operators whose calls cannot be converted.
        results: The value in the program of each tensor of the graph, by the name of the tensor.
    """

    program: Program
    placements: tuple[Placement, ...]
    problems: tuple[Problem, ...]
    refused: frozenset[str]
    results: Mapping[str, Value]
