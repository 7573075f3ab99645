"""Define the result of one trace of a Keras model."""

from dataclasses import dataclass

from keras3conv.errors import Problem
from keras3conv.model.graph import Graph


@dataclass(frozen=True, kw_only=True)
class Traced:
    """The result of one trace: a call graph in which dynamic sizes are numbers.

    Attributes:
        graph: The call graph.
        problems: The problems of layers that cannot be traced.
        entered: The paths of the layers of which the graph has the operations, in inference mode.
        losses: The paths of the layers that add a term to the loss.
        has_rounded_numbers: Whether an argument is a number that a layer has computed in float32.
        loops: For each loop over the parts of a tensor: the path of the layer, the function, and the number of parts.
    """

    graph: Graph
    problems: tuple[Problem, ...]
    entered: frozenset[str]
    losses: frozenset[str]
    has_rounded_numbers: bool
    loops: tuple[tuple[str, str, int], ...]
