"""Tests of converted batch normalisations with a mask: they leave masked steps out of the statistics in training."""

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import torch

import keras3conv as k3c
from keras3conv.frameworks.torch.generated import instance_of

layers = keras.layers


def padded() -> np.ndarray[Any, Any]:
    values = np.random.default_rng(0).normal(size=(3, 6, 5)).astype(np.float32)
    values[0, 4:] = values[1, 2:] = 0
    return values


def behind_a_mask(*parts: keras.layers.Layer) -> keras.Model:
    model = keras.Sequential([keras.Input((6, 5)), layers.Masking(), *parts])
    random = np.random.default_rng(1)
    for variable in model.weights:
        if "seed" not in variable.path:
            low = 0.5 if variable.path.endswith("variance") else -0.7
            variable.assign(random.uniform(low, 1.7, tuple(variable.shape)))
    return model


def recurrent() -> keras.Model:
    """The layers of a text model: two batch normalisations, one with a mask."""
    first = layers.Bidirectional(layers.LSTM(4, return_sequences=True))
    return behind_a_mask(
        first,
        layers.BatchNormalization(name="norm"),
        layers.Bidirectional(layers.LSTM(3)),
        layers.Dense(4),
        layers.BatchNormalization(name="last"),
        layers.Dense(2),
    )


MODELS = {
    "dense": lambda: behind_a_mask(layers.Dense(4), layers.BatchNormalization(name="norm"), layers.Dense(3)),
    "recurrent": recurrent,
    "no scale": lambda: behind_a_mask(layers.BatchNormalization(scale=False, momentum=0.7, name="norm")),
    "each step": lambda: behind_a_mask(layers.TimeDistributed(layers.BatchNormalization(name="norm"))),
    "frozen": lambda: behind_a_mask(layers.BatchNormalization(trainable=False, name="norm"), layers.Dense(3)),
}


def converted(model: keras.Model) -> k3c.Conversion:
    conversion = k3c.convert(model)
    assert conversion.report is not None
    conversion.report.raise_if_failed()
    assert "trains differently" not in str(conversion.report)
    return conversion


@pytest.fixture(scope="module", name="dense")
def fixture_dense() -> tuple[keras.Model, k3c.Conversion]:
    model = MODELS["dense"]()
    return model, converted(model)


@pytest.mark.parametrize("name", MODELS)
def test_a_step_in_training_gives_the_outputs_and_statistics_of_keras(name: str) -> None:
    model = MODELS[name]()
    module = converted(model).model.train()
    outputs = module(torch.from_numpy(padded())).detach().numpy()
    expected = keras.ops.convert_to_numpy(model(padded(), training=True))
    if outputs.shape != expected.shape:
        outputs = outputs.swapaxes(1, 2)
    np.testing.assert_allclose(outputs, expected, atol=2e-6, rtol=1e-5)
    found = {path: tensor.numpy() for path, tensor in module.named_buffers() if "norm" in path and "running" in path}
    moving = [variable for variable in model.non_trainable_variables if "norm/moving" in variable.path]
    assert len(found) == len(moving) == 2
    for tensor, variable in zip(found.values(), moving, strict=True):
        np.testing.assert_allclose(tensor, keras.ops.convert_to_numpy(variable), atol=1e-6, rtol=1e-5)


def test_a_masked_step_changes_no_statistic_and_other_steps_do(dense: tuple[keras.Model, k3c.Conversion]) -> None:
    module = dense[1].model
    assert type(module.norm).__name__ == "MaskedBatchNorm"
    steps, mask = torch.randn(2, 4, 6), torch.tensor([[True] * 6, [True, True, False, False, False, False]])
    changed, counted = steps.clone(), steps.clone()
    changed[1, :, 2:] = 1e6
    counted[1, :, 1] = 7.0
    first, same, other = (module.norm.moments(values, mask) for values in (steps, changed, counted))
    torch.testing.assert_close(first, same, rtol=0, atol=0)
    assert not torch.allclose(first[0], other[0])
    kept = torch.cat([steps[0], steps[1, :, :2]], 1)
    torch.testing.assert_close(first, (kept.mean(1), kept.var(1, correction=0)))


@pytest.mark.parametrize("from_file", [False, True], ids=["live", "file"])
def test_a_module_with_a_mask_passes_with_training(from_file: bool, tmp_path: Path) -> None:
    model = recurrent()
    source: Any = model
    if from_file:
        source = tmp_path / "model.keras"
        model.save(source)
    conversion = k3c.convert(source, validate=False)
    given: dict[str, Any] = {"plan": conversion.alignment, "inputs": torch.from_numpy(padded()), "training": True}
    report = k3c.validate(conversion.model, model, **given)
    report.raise_if_failed()
    assert "one step in training mode" in report.section("gradients").summary
    assert "known difference" in report.section("gradients").facts  # of the other batch normalisation


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("self.norm(y, x)", "self.norm(y)"),
        ("self.norm(y, x)", "self.norm(y, ~x)"),
        ("self.running_mean.lerp_(mean, self.momentum)", "pass"),
        (".square().sum(axes) / number", ".square().sum(axes) / (number - 1)"),
    ],
)
def test_a_mistake_in_the_statistics_is_found_by_the_step_in_training(
    right: str, wrong: str, dense: tuple[keras.Model, k3c.Conversion]
) -> None:
    model, conversion = dense
    assert right in conversion.source
    module = instance_of(conversion.source.replace(right, wrong))
    module.load_state_dict(conversion.model.state_dict())
    given: dict[str, Any] = {"plan": conversion.alignment, "inputs": torch.from_numpy(padded())}
    section = k3c.validate(module, model, **given).section("gradients")
    assert section.status == "failed"
