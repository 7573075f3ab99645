"""Build a pair of models from an example of a rule; the pair is correct, so every proof must pass."""

from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import torch

import keras3conv as k3c
from keras3conv.alignment.plan import Alignment
from keras3conv.frameworks.keras import model as keras_side
from keras3conv.report.report import Report
from keras3conv.rules.rule import Rule
from keras3conv.transforms import Arrays
from tests.support.trials import Trial, call_layers, make_trial, mappings, owners, to_keras_layout


class TorchModel(torch.nn.Module):
    """The torch layer of a trial, with the outputs that the Keras layers return."""

    def __init__(self, trial: Trial) -> None:
        super().__init__()
        self.layer = trial.module
        self.trial = (trial,)  # in a tuple: its layers are not this module's

    def forward(self, *inputs: torch.Tensor) -> Any:
        (trial,) = self.trial
        outputs = self.layer(*trial.rule.torch_arguments(inputs))
        if trial.rule.output is None:
            return outputs
        # The rule selects among the values: apply it to their positions to learn which ones.
        flat = tuple(outputs) if isinstance(outputs, tuple | list) else (outputs,)
        places = np.arange(flat[0].numel()).reshape(flat[0].shape)
        others = tuple(np.zeros(tuple(other.shape), int) for other in flat[1:] if isinstance(other, torch.Tensor))
        config = keras_side.view(trial.layers[-1]).layers[0].config or {}
        chosen = trial.rule.output((places, *others), trial.config, config, trial.returned)
        return flat[0].reshape(-1)[torch.from_numpy(np.ascontiguousarray(chosen))]


class KerasModel(keras.Model):
    """The Keras layers of a trial as a model."""

    def __init__(self, trial: Trial) -> None:
        super().__init__(name="made")
        self.parts = list(trial.layers)
        self.trial = (trial,)

    def call(self, inputs: Any) -> Any:
        (trial,) = self.trial
        given = tuple(inputs) if isinstance(inputs, tuple | list) else (inputs,)
        made = call_layers(trial, given, lambda layer, args: layer(*args))
        return made[0] if trial.rule.output is not None and isinstance(made, tuple | list) else made


@dataclass(frozen=True, kw_only=True)
class ModelPair:
    """Two equal models with the same weights, the inputs of each, and the plan."""

    torch: TorchModel
    keras: KerasModel
    inputs: Arrays
    keras_inputs: Any
    plan: Alignment

    def certificate(self, **options: Any) -> Report:
        """Return the report of `validate`."""
        given = {"inputs": self.inputs, "keras_inputs": self.keras_inputs}
        return k3c.validate(self.torch, self.keras, alignment=self.plan, **given, **options)


def make_pair(rule: Rule, place: int) -> ModelPair:
    """Build the pair of models for one example of a rule."""
    trial = make_trial(rule, rule.examples[place])
    torch_model, keras_model = TorchModel(trial).eval(), KerasModel(trial)
    arrays = [to_keras_layout(rule, trial.config, array) for array in trial.inputs]
    given = arrays[0] if len(arrays) == 1 else arrays
    keras_side.run(keras_model, given, watch=False)
    # Without the probe, and by this rule: the certificate is under test here, not the planner.
    plan = k3c.align(torch_model, keras_model, inputs=trial.inputs, keras_inputs=given, probe=False)
    if mappings(trial) and rule.name not in {pair.rule for pair in plan.pairs}:
        torch_names = ["layer"]
        if rule.torch_count != 1:
            torch_names = [f"layer.{number}" for number, _ in enumerate(trial.module.children())]
        plan = plan.pair(torch_names, [layer.name for layer in owners(trial)])
    return ModelPair(torch=torch_model, keras=keras_model, inputs=trial.inputs, keras_inputs=given, plan=plan)
