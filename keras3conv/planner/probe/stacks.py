"""One torch layer that Keras has as several in a row: each is filled as it is called, the last is held to torch."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from keras3conv.alignment.pair import Evidence, Pair
from keras3conv.model.views import LayerView
from keras3conv.numerics.fingerprint import relative_error
from keras3conv.planner.probe.option import Option, whole
from keras3conv.planner.probe.record import NEAR, TorchRun
from keras3conv.rules.library import find
from keras3conv.transforms import Array


@dataclass
class Stack:
    """One pair of a torch layer with several Keras layers, while Keras runs.

    Attributes:
        pair: The pair.
        torch: The torch layer.
        error: How far the last layer's output was from torch's; infinite before it was called.
        limit: How far the same values may be.
    """

    pair: Pair
    torch: LayerView
    error: float = field(default=float("inf"))
    limit: float = 0.0

    def values(self, run: TorchRun, keras: LayerView) -> dict[str, Array]:
        """What one of the Keras layers is filled with."""
        own = {tensor.path for tensor in keras.tensors}
        made: dict[str, Array] = {}
        for mapping in self.pair.weights:
            given = tuple(run.weights[path] for path in mapping.torch)
            made |= dict(zip(mapping.keras, mapping.transform(given), strict=True))
        return {path: value for path, value in made.items() if path in own}

    def compare(self, run: TorchRun, keras: LayerView, array: Array | None, place: int) -> None:
        """Holds what the last Keras layer returned against what torch did."""
        if array is None or not self.pair.keras.endswith(f" + {keras.path}"):
            return
        sources = {tensor.path: whole(tensor) for tensor in self.torch.tensors}
        option = Option(
            kind="layer",
            layers=(self.torch,),
            keras=keras,
            rule=find(self.pair.rule),
            mappings=self.pair.weights,
            sources=sources,
        )
        errors = [relative_error(array, expected) for expected in option.expected(run, array.shape, place)]
        self.error = min(errors, default=float("inf"))
        self.limit = run.of(self.torch.path)[place].limit if errors else 0.0

    def judged(self) -> Pair:
        """The pair, with what the run told of it."""
        if self.error <= self.limit:
            evidence = Evidence(kind="probe", detail="the output of the last layer is torch's")
        elif self.error <= NEAR:
            evidence = Evidence(
                kind="probe", detail=f"the last layer's output differs by {self.error:.2g} of the largest"
            )
        else:
            evidence = Evidence(kind="forced", detail="the only row that fits, but its last output is not torch's")
        return replace(self.pair, evidence=(*self.pair.evidence, evidence))


def stacks_of(pairs: list[Pair], layers: Mapping[str, LayerView]) -> dict[str, Stack]:
    """The pairs of one torch layer with several Keras layers, by each of these."""
    made = [Stack(pair, layers[pair.torch]) for pair in pairs if pair.torch in layers and " + " in pair.keras]
    return {path: stack for stack in made for path in stack.pair.keras.split(" + ")}
