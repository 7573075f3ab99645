"""What is judged: two models with a plan, and their runs, each made once and shared by the judges."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any

import numpy as np

from keras3conv.alignment.audit import FieldPair, audit
from keras3conv.alignment.pair import Pair
from keras3conv.alignment.plan import Alignment
from keras3conv.alignment.staging import direction
from keras3conv.errors import ModelError
from keras3conv.frameworks.shared.inputs import Inputs
from keras3conv.frameworks.shared.recording import Recording
from keras3conv.model.views import LayerView, ModelView
from keras3conv.numerics.probe_values import Pool, probe
from keras3conv.rules.library import known_classes
from keras3conv.transforms import Array
from keras3conv.validators.running.options import Options
from keras3conv.validators.running.sample import Sample, a_few_samples

__all__ = ["Subject", "probe"]


@dataclass(frozen=True, kw_only=True)
class Subject:
    """Two models and what connects them.

    Attributes:
        plan: Which tensor belongs where.
        outlines: The torch side and the Keras side: names, shapes and dtypes of their tensors, which is what every
            certificate needs.
        views: Makes the two sides with all that can be told of them: configurations, and what a run tells. Keras is
            slow to tell them, so they are asked for once, and only by judges that read them.
        torch: The live torch module; None where the side is a file of weights.
        keras: The live Keras model; None where the side is a file of weights.
        inputs: What both are called with; None where a side cannot be called.
        not_run: Why the models are not called; empty if they are.
        options: What the certificate is asked for.
        probes: Values for the torch tensors in the plan, for the runs under probe weights; None for those of the
            usual size.
    """

    plan: Alignment
    outlines: tuple[ModelView, ModelView]
    views: Callable[[], tuple[ModelView, ModelView]]
    torch: Any = None
    keras: Any = None
    inputs: Inputs | None = None
    not_run: str = ""
    options: Options = field(default_factory=Options)
    probes: Mapping[str, Array] | None = None

    @cached_property
    def _views(self) -> tuple[ModelView, ModelView]:
        return self.views()

    @property
    def torch_view(self) -> ModelView:
        """The torch side."""
        return self._views[0]

    @property
    def keras_view(self) -> ModelView:
        """The Keras side."""
        return self._views[1]

    def audit(self, pairs: Iterable[Pair]) -> Iterator[FieldPair]:
        """What the rules say of the hyper-parameters of some pairs."""
        from keras3conv.frameworks.torch import module as torch_side

        return audit(pairs, *self._views, frozen=torch_side.frozen_parameters(self.torch))

    @cached_property
    def torch_layers(self) -> Mapping[str, LayerView]:
        """The torch layers by path."""
        return {layer.path: layer for layer in self.torch_view.layers}

    @cached_property
    def keras_layers(self) -> Mapping[str, LayerView]:
        """The Keras layers by path."""
        return {layer.path: layer for layer in self.keras_view.layers}

    @cached_property
    def parameters(self) -> frozenset[str]:
        """The torch tensors that an optimiser may change."""
        return frozenset(tensor.path for tensor in self.torch_view.tensors() if tensor.trainable)

    @cached_property
    def pairs_in_order(self) -> tuple[Pair, ...]:
        """The pairs of single layers that run, in the order in which torch calls them."""
        run = self.torch_run if self.watches_layers else self.torch_probe
        places = {call.path: call.place for call in reversed(run.calls)}
        pairs = [pair for pair in self.plan.pairs if pair.torch in places and " + " not in pair.keras]
        return tuple(sorted(pairs, key=lambda pair: places[pair.torch]))

    @cached_property
    def torch_run(self) -> Recording:
        """The torch module as it is, in its own dtype."""
        return self._run_torch()

    @cached_property
    def torch_truth(self) -> Recording:
        """The torch module with its own weights in float64: the measure of its float32 noise."""
        return self._run_torch(float64=True)

    @cached_property
    def torch_sample(self) -> Sample | None:
        """The torch module on a few samples, in its own dtype and in float64.

        None where the batch is small, or the module takes no other batch than the whole (a reshape to its size).
        """
        from keras3conv.frameworks.torch import module as torch_side

        if (few := a_few_samples(self.given)) is None:
            return None
        try:
            with torch_side.precise():
                run, truth = (torch_side.run(self.torch, few[0], float64=wide, watch=False) for wide in (False, True))
        except ModelError:  # the whole batch is measured in its place
            return None
        return Sample(run=run, truth=truth, whole=self.torch_run, told=few[1])

    @cached_property
    def keras_run(self) -> Recording:
        """The Keras model as it is, in its own dtype, on its own backend."""
        from keras3conv.frameworks.keras import model as keras_side

        run = partial(keras_side.run, self.keras, self.given.keras, record=self._records_keras)
        with keras_side.precise():
            return _naming_the_layer(run, watch=self.watches_layers)

    @cached_property
    def torch_again(self) -> Recording:
        """The torch module as it is, once more, unwatched: a model in which nothing is random gives the same."""
        from keras3conv.frameworks.torch import module as torch_side

        with torch_side.precise():
            return torch_side.run(self.torch, self.given.torch, watch=False)

    @cached_property
    def keras_again(self) -> Recording:
        """The Keras model as it is, once more, unwatched."""
        from keras3conv.frameworks.keras import model as keras_side

        with keras_side.precise():
            return keras_side.run(self.keras, self.given.keras, watch=False)

    @cached_property
    def torch_probe(self) -> Recording:
        """The torch module in float64 with probe weights."""
        return self._run_torch(float64=True, tensors=self.probe_weights)

    @cached_property
    def keras_probe(self) -> Recording:
        """The Keras model in float64 with the same probe weights, moved by the plan."""
        from keras3conv.frameworks.keras import model as keras_side

        with keras_side.precise(), keras_side.float64_mode(self.keras):
            keras_side.write(self.keras, self.keras_probe_weights)
            return keras_side.run(self.keras, self.given.keras, record=self._records_keras_probe)

    @cached_property
    def probe_weights(self) -> Mapping[str, Array]:
        """Weights that hide nothing, for every torch tensor in the plan; one for all names of a tensor."""
        if self.probes is not None:
            return self.probes
        pool = Pool()
        planned = {path for mapping in self.plan.mappings for path in mapping.torch}
        floating = [tensor for tensor in self.torch_view.tensors() if tensor.dtype.startswith(("float", "bfloat"))]
        ties: dict[str, Array] = {}
        probes: dict[str, Array] = {}
        for tensor in floating:
            if tensor.path in planned:
                name = tensor.storage or tensor.path
                probes[tensor.path] = ties[name] if name in ties else ties.setdefault(name, probe(tensor, pool))
        return probes | self.constants

    @property
    def constants(self) -> dict[str, Array]:
        """What torch cannot be without and Keras does not have: ones or zeros, whatever is probed."""
        fixed = [mapping for mapping in self.plan.mappings if not mapping.keras]
        made = ((mapping.torch, direction(mapping, "torch")(())) for mapping in fixed)
        return {
            path: np.array(value, float) for paths, values in made for path, value in zip(paths, values, strict=True)
        }

    @cached_property
    def keras_probe_weights(self) -> Mapping[str, Array]:
        """The probe weights on the Keras side."""
        moved: dict[str, Array] = {}
        for mapping in self.plan.mappings:
            if all(path in self.probe_weights for path in mapping.torch):
                arrays = tuple(self.probe_weights[path] for path in mapping.torch)
                moved |= dict(zip(mapping.keras, direction(mapping, "keras")(arrays), strict=True))
        return moved

    @property
    def given(self) -> Inputs:
        """What the models are called with."""
        assert self.inputs is not None, "judges that run models are skipped where there are no inputs"
        return self.inputs

    @property
    def watches_layers(self) -> bool:
        """Whether a proof is wanted that looks at the layers of the models as they are deployed."""
        return self.options.wants("activations")

    def _run_torch(self, *, float64: bool = False, tensors: Mapping[str, Array] | None = None) -> Recording:
        from keras3conv.frameworks.torch import module as torch_side

        run = partial(
            torch_side.run,
            self.torch,
            self.given.torch,
            record=self._records_torch if tensors is None else self._records_torch_probe,
            float64=float64,
            tensors=tensors,
        )
        with torch_side.precise():
            return _naming_the_layer(run, watch=self.watches_layers or tensors is not None)

    def is_weightless(self, layer: LayerView) -> bool:
        """Whether a layer is one that a rule may pair, although it owns no tensor."""
        known = known_classes()[0 if layer is self.torch_layers.get(layer.path) else 1]
        return not any(not tensor.is_seed for tensor in layer.tensors) and bool(known.intersection(layer.kinds))

    def _records_torch_probe(self, path: str) -> bool:
        return self._records_torch(path) or (path in self.torch_layers and self.is_weightless(self.torch_layers[path]))

    def _records_keras_probe(self, path: str) -> bool:
        return self._records_keras(path) or (path in self.keras_layers and self.is_weightless(self.keras_layers[path]))

    def _records_torch(self, path: str) -> bool:
        return path in self._paired["torch"]

    def _records_keras(self, path: str) -> bool:
        return path in self._paired["keras"]

    @cached_property
    def _paired(self) -> Mapping[str, frozenset[str]]:
        return {
            "torch": frozenset(path for pair in self.plan.pairs for path in pair.torch.split(" + ")),
            "keras": frozenset(path for pair in self.plan.pairs for path in pair.keras.split(" + ")),
        }


def _naming_the_layer(run: Callable[..., Recording], *, watch: bool) -> Recording:
    """Runs a model; where it raises and was not watched, it is run once more, to see which layer that is."""
    try:
        return run(watch=watch)
    except ModelError:
        if not watch:
            run(watch=True)
        raise
