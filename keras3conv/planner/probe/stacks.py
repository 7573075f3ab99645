"""Compare a torch layer in the probe, such as a two-layer LSTM, with several Keras layers in sequence.

Only the output of the last Keras layer is compared.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from keras3conv.alignment.pair import Evidence, Pair
from keras3conv.model.views import LayerView
from keras3conv.numerics.fingerprint import relative_error
from keras3conv.planner.probe.option import Candidate, whole_tensor
from keras3conv.planner.probe.record import NEAR, TorchRun
from keras3conv.rules.library import find
from keras3conv.transforms import Array


@dataclass
class Stack:
    """The pair of one torch layer with several Keras layers in sequence, during the run of the Keras model.

    Attributes:
        pair: The pair.
        torch: The torch layer.
        error: The relative error of the last Keras layer's output; infinite before its call.
        limit: The largest relative error at which outputs count as equal.
    """

    pair: Pair
    torch: LayerView
    error: float = field(default=float("inf"))
    limit: float = 0.0

    def values(self, run: TorchRun, keras: LayerView) -> dict[str, Array]:
        """Return the values that one of the Keras layers gets from the weights of the torch layer, by variable path."""
        own = {tensor.path for tensor in keras.tensors}
        values: dict[str, Array] = {}
        for mapping in self.pair.weights:
            given = tuple(run.weights[path] for path in mapping.torch)
            values |= dict(zip(mapping.keras, mapping.transform(given), strict=True))
        return {path: value for path, value in values.items() if path in own}

    def compare(self, run: TorchRun, keras: LayerView, array: Array | None, call_index: int) -> None:
        """Compare the output of the last Keras layer in the sequence with torch, and store the error and its limit.

        Nothing is done for the other Keras layers of the sequence.

        Args:
            run: The recorded torch run.
            keras: The Keras layer.
            array: The output of the Keras layer; None if there is none.
            call_index: The number of the layer's calls before this one.
        """
        if array is None or keras.path != self.pair.keras_layers[-1]:
            return
        sources = {tensor.path: whole_tensor(tensor) for tensor in self.torch.tensors}
        candidate = Candidate(
            kind="layer",
            layers=(self.torch,),
            keras=keras,
            rule=find(self.pair.rule),
            mappings=self.pair.weights,
            sources=sources,
        )
        outputs = candidate.recorded_outputs(run, array.shape, call_index)
        errors = [relative_error(array, recorded) for recorded in outputs]
        self.error = min(errors, default=float("inf"))
        self.limit = run.calls_of(self.torch.path)[call_index].limit if errors else 0.0

    def with_evidence(self) -> Pair:
        """Return the pair with one entry of evidence: how far the output of its last Keras layer differs from torch."""
        if self.error <= self.limit:
            evidence = Evidence(kind="probe", detail="the output of the last layer equals torch's")
        elif self.error <= NEAR:
            evidence = Evidence(
                kind="probe",
                detail=f"the output of the last layer differs from torch's by {self.error:.2g} of the largest value",
            )
        else:
            evidence = Evidence(
                kind="forced",
                detail="no other sequence of layers fits, but the output of the last layer differs from torch's",
            )
        return replace(self.pair, evidence=(*self.pair.evidence, evidence))


def stacks_of(pairs: list[Pair], layers: Mapping[str, LayerView]) -> dict[str, Stack]:
    """Return those of the pairs that join one torch layer with several Keras layers, by the path of each Keras layer.

    Args:
        pairs: The pairs made so far.
        layers: The torch layers, by path.
    """
    stacks = [Stack(pair, layers[pair.torch]) for pair in pairs if pair.torch in layers and len(pair.keras_layers) > 1]
    return {path: stack for stack in stacks for path in stack.pair.keras_layers}
