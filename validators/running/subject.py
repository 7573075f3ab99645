"""Hold the two models that `validate` compares, and their recorded forward passes, which all proofs share."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import Any, TypeVar

import numpy as np

from keras3conv.alignment.pair import Pair
from keras3conv.alignment.plan import Alignment
from keras3conv.errors import ModelError
from keras3conv.frameworks.exact_constants import exact_constants
from keras3conv.frameworks.shared.inputs import Inputs
from keras3conv.frameworks.shared.recording import Recording, traced
from keras3conv.model.views import LayerView, ModelView, Side
from keras3conv.numerics.probe_values import Pool, probe
from keras3conv.rules.library import known_classes
from keras3conv.transforms import Array
from keras3conv.validators.running.options import Options
from keras3conv.validators.running.output_pairs import are_near

Made = TypeVar("Made")


@dataclass(frozen=True, kw_only=True)
class Subject:
    """Two models, their plan and their inputs; each kind of forward pass is a property that is computed once.

    Attributes:
        plan: The plan: the pairs of torch tensors and Keras variables.
        outlines: Names, shapes and dtypes of the torch tensors and of the Keras variables; enough for most proofs.
        views: Returns the full views of torch and of Keras, with layer configurations. This is slow in Keras, so it is
            called at most once, and only if a proof needs the views.
        torch: The live torch module; None if the side is a weight file.
        keras: The live Keras model; None if the side is a weight file.
        inputs: Inputs of both sides; None if a side cannot run.
        skip_reason: The reason why the models are not run; empty if they are run.
        options: The options of `validate`.
        probes: The random weights of the float64 runs, by torch path; None for the standard ones.
        port: The side whose weights a transfer wrote, so that a new transfer should write this side; None if unknown.
    """

    plan: Alignment
    outlines: tuple[ModelView, ModelView]
    views: Callable[[], tuple[ModelView, ModelView]]
    torch: Any = None
    keras: Any = None
    inputs: Inputs | None = None
    skip_reason: str = ""
    options: Options = field(default_factory=Options)
    probes: Mapping[str, Array] | None = None
    port: Side | None = None
    _made: dict[Callable[["Subject"], Any], Any] = field(default_factory=dict, init=False, repr=False, compare=False)

    @cached_property
    def _views(self) -> tuple[ModelView, ModelView]:
        """The full views of both sides, with the layers' call order if a proof needs it and a run can record it."""
        torch, keras = self.views()
        if self.skip_reason or not self.options.wants("hyperparameters"):
            return torch, keras
        return traced(torch, self.torch_run), traced(keras, self.keras_run)

    @property
    def torch_view(self) -> ModelView:
        """The view of the torch model: its tensors, layers and configurations."""
        return self._views[0]

    @property
    def keras_view(self) -> ModelView:
        """The view of the Keras model: its variables, layers and configurations."""
        return self._views[1]

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
        """Paths of the torch tensors that an optimiser may change (parameters, not buffers)."""
        return frozenset(tensor.path for tensor in self.torch_view.tensors() if tensor.trainable)

    @cached_property
    def pairs_in_call_order(self) -> tuple[Pair, ...]:
        """The pairs of one torch layer and one Keras layer that both run, in torch's call order."""
        run = self.torch_run if self.records_layers else self.torch_probe
        places = {call.path: call.place for call in reversed(run.calls)}
        pairs = [pair for pair in self.plan.pairs if pair.torch in places and len(pair.keras_layers) == 1]
        return tuple(sorted(pairs, key=lambda pair: places[pair.torch]))

    @cached_property
    def torch_run(self) -> Recording:
        """The recorded run of the torch module with its own weights and dtype."""
        return self.run_torch(watch=self._watches_layers)

    @cached_property
    def torch_truth(self) -> Recording:
        """The recorded run of the torch module with its own weights in float64, to measure its float32 rounding."""
        return self.run_torch(float64=True, tensors=self.exact_constants)

    @cached_property
    def keras_run(self) -> Recording:
        """The recorded run of the Keras model with its own weights and dtype, on its own backend."""
        from keras3conv.frameworks.keras import model as keras_side

        record = self._recorded["keras"].__contains__
        run = partial(keras_side.run, self.keras, self.required_inputs.keras, record=record)
        with keras_side.precise():
            return _run_and_name_failing_layer(run, watch=self._watches_layers)

    @cached_property
    def torch_probe(self) -> Recording:
        """The recorded run of the torch module in float64 with random probe weights."""
        record = self.recorded_in_probe["torch"]
        return self.run_torch(record=record, watch=True, float64=True, tensors=self.probe_weights)

    def take_torch_probe(self, run: Recording) -> None:
        """Set `torch_probe` to a run that was already made under these random weights, so that it is not repeated.

        A copy of this object by `dataclasses.replace` does not keep the run.
        """
        vars(self)["torch_probe"] = run

    @cached_property
    def keras_probe(self) -> Recording:
        """The recorded run of the Keras model in float64 with the same random weights, mapped by the plan."""
        from keras3conv.frameworks.keras import model as keras_side

        record = self.recorded_in_probe["keras"].__contains__
        with keras_side.float64_weights(self.keras, self.keras_probe_weights):
            return keras_side.run(self.keras, self.required_inputs.keras, record=record)

    @cached_property
    def outputs_are_near(self) -> bool:
        """True if the models return almost the same outputs in the float64 runs under random weights."""
        return are_near(self.torch_probe, self.keras_probe)

    @cached_property
    def probe_weights(self) -> Mapping[str, Array]:
        """Random, non-degenerate weights for every floating-point torch tensor in the plan, by path.

        All names of a tied tensor have the same array.
        """
        if self.probes is not None:
            return self.probes
        pool = Pool()
        planned = {path for mapping in self.plan.mappings for path in mapping.torch}
        by_storage: dict[str, Array] = {}
        weights: dict[str, Array] = {}
        for tensor in self.torch_view.tensors():
            if tensor.path not in planned or not tensor.dtype.startswith(("float", "bfloat")):
                continue
            if (storage := tensor.storage or tensor.path) not in by_storage:
                own = None if tensor.trainable else self.torch_view.read(tensor.path)
                by_storage[storage] = probe(tensor, pool, own=own)
            weights[tensor.path] = by_storage[storage]
        return weights | self.constants

    @property
    def constants(self) -> dict[str, Array]:
        """The torch tensors that Keras lacks (a scale of ones, a bias of zeros), by path; they keep these values."""
        constants = dict(self.exact_constants)
        for mapping in (one for one in self.plan.mappings if not one.keras):
            values = mapping.transform.inverse(())
            constants |= {path: np.array(value, float) for path, value in zip(mapping.torch, values, strict=True)}
        return constants

    @cached_property
    def exact_constants(self) -> dict[str, Array]:
        """The float64 values of torch constants that Keras computes in each call."""
        if self.torch is None or self.keras is None or self.inputs is None:
            return {}
        mapped = {path for mapping in self.plan.mappings for path in mapping.torch}
        buffers = (one.path for one in self.outlines[0].tensors() if not one.trainable and one.path not in mapped)
        return exact_constants(self.outlines[0], buffers, self.keras, self.inputs.keras)

    @cached_property
    def keras_probe_weights(self) -> Mapping[str, Array]:
        """The values of `probe_weights` for the Keras variables, transformed by the plan, by Keras path."""
        moved: dict[str, Array] = {}
        for mapping in self.plan.mappings:
            if all(path in self.probe_weights for path in mapping.torch):
                arrays = tuple(self.probe_weights[path] for path in mapping.torch)
                moved |= dict(zip(mapping.keras, mapping.transform(arrays), strict=True))
        return moved

    def varied(self, inputs: Inputs, probes: Mapping[str, Array] | None = None) -> "Subject":
        """Return the same models for runs in float64 with other inputs, and with other random weights if given."""
        views = self.torch_view, self.keras_view
        return replace(
            self,
            views=lambda: views,
            inputs=inputs,
            options=replace(self.options, proofs=("float64",)),
            probes=self.probe_weights if probes is None else probes,
        )

    def once(self, make: Callable[["Subject"], Made]) -> Made:
        """Return the result of a function of these models; the function is called only the first time."""
        if make not in self._made:
            self._made[make] = make(self)
        made: Made = self._made[make]
        return made

    @property
    def required_inputs(self) -> Inputs:
        """The inputs of both sides, for proofs that run the models."""
        assert self.inputs is not None, "proofs that run the models are skipped if there are no inputs"
        return self.inputs

    @property
    def records_layers(self) -> bool:
        """True if the runs with the models' own weights record layer outputs, because a proof compares them."""
        return self.options.wants("activations")

    @property
    def _watches_layers(self) -> bool:
        """True if the runs with the models' own weights observe the calls of layers."""
        return self.records_layers or self.options.wants("hyperparameters")

    def run_torch(
        self,
        *,
        record: frozenset[str] | None = None,
        watch: bool | None = None,
        float64: bool = False,
        tensors: Mapping[str, Array] | None = None,
        inputs: Any = None,
        rounding: AbstractContextManager[None] | None = None,
    ) -> Recording:
        """Run the torch module, with its own weights and dtype unless others are given.

        Args:
            record: The paths of the layers to record; None for the paired ones, if a proof compares layers.
            watch: Whether to observe the calls of layers; None for "if a proof compares layers".
            float64: Whether to run in float64.
            tensors: Values that replace the module's tensors, by path.
            inputs: Other inputs than those of the subject.
            rounding: A context in which torch rounds in another way.
        """
        from keras3conv.frameworks.torch import module as torch_side

        given = self.required_inputs.torch if inputs is None else inputs
        recorded = self._recorded["torch"] if record is None else record
        run = partial(torch_side.run, self.torch, given, record=recorded.__contains__, float64=float64, tensors=tensors)
        run = partial(run, mode=rounding, in_parts=self.in_parts)
        with torch_side.precise():
            return _run_and_name_failing_layer(run, watch=self.records_layers if watch is None else watch)

    @cached_property
    def in_parts(self) -> frozenset[str]:
        """The paths of weights that torch computes from other tensors, if the plan lists those tensors instead."""
        from keras3conv.frameworks.torch.derived import planned_in_parts

        return planned_in_parts(self.torch, self.plan.torch)

    @cached_property
    def weightless(self) -> Mapping[Side, frozenset[str]]:
        """The paths of the layers of each side that have no weights, and for whose class a rule exists."""
        torch, keras = known_classes()
        return {"torch": _weightless(self.torch_view, torch), "keras": _weightless(self.keras_view, keras)}

    @cached_property
    def recorded_in_probe(self) -> Mapping[Side, frozenset[str]]:
        """The paths of the layers that the runs under random weights record."""
        return {side: paths | self.weightless[side] for side, paths in self._paired.items()}

    @property
    def _recorded(self) -> Mapping[Side, frozenset[str]]:
        """The paths of the layers that the runs with the models' own weights record."""
        return self._paired if self.records_layers else {"torch": frozenset(), "keras": frozenset()}

    @cached_property
    def _paired(self) -> Mapping[Side, frozenset[str]]:
        return {
            "torch": frozenset(path for pair in self.plan.pairs for path in pair.torch_layers),
            "keras": frozenset(path for pair in self.plan.pairs for path in pair.keras_layers),
        }


def _weightless(view: ModelView, known: frozenset[str]) -> frozenset[str]:
    layers = (layer for layer in view.layers if known.intersection(layer.kinds))
    return frozenset(layer.path for layer in layers if all(tensor.is_seed for tensor in layer.tensors))


def _run_and_name_failing_layer(run: Callable[..., Recording], *, watch: bool) -> Recording:
    """Run a model; if it raises without observed layers (`watch`), repeat the run, whose error then names the layer."""
    try:
        return run(watch=watch)
    except ModelError:
        if not watch:
            run(watch=True)
        raise
