"""Tests of what a certificate says about a batch normalisation of Keras that gets a mask.

In training Keras leaves the masked steps out of the statistics of the batch; torch's classes take every step.
"""

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import torch
from torch import nn

import keras3conv as k3c
from keras3conv.report.report import Report

LEFT_OUT = "in training Keras leaves masked steps out of the statistics of the batch, torch takes every step"


def masked_model(*, is_masked: bool = True, trainable: bool = True) -> keras.Model:
    """A model whose batch normalisation gets a mask, with statistics of its own."""
    layers = [keras.layers.Masking()] if is_masked else []
    layers += [
        keras.layers.Dense(4, name="first"),
        keras.layers.BatchNormalization(name="norm", trainable=trainable),
        keras.layers.Dense(3, name="second"),
    ]
    return keras.Sequential([keras.Input((6, 5)), *layers])


class Port(nn.Module):
    """The same model, written by hand with torch's batch normalisation."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(5, 4)
        self.norm = nn.BatchNorm1d(4, eps=1e-3, momentum=0.01)
        self.second = nn.Linear(4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.second(self.norm(self.first(x).transpose(1, 2)).transpose(1, 2))


class PortWithAFunction(nn.Module):
    """A port that always normalises with the stored statistics."""

    mean: torch.Tensor
    variance: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(5, 4), nn.Linear(4, 3)
        self.gamma, self.beta = nn.Parameter(torch.ones(4)), nn.Parameter(torch.zeros(4))
        self.register_buffer("mean", torch.zeros(4))
        self.register_buffer("variance", torch.ones(4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.first(x).transpose(1, 2)
        x = nn.functional.batch_norm(x, self.mean, self.variance, self.gamma, self.beta, eps=1e-3)
        return self.second(x.transpose(1, 2))


def padded() -> np.ndarray[Any, Any]:
    values = np.random.default_rng(0).normal(size=(3, 6, 5)).astype(np.float32)
    values[0, 4:] = values[1, 2:] = 0
    return values


def certificate(port: nn.Module, model: keras.Model, *, training: bool = False) -> Report:
    plan = k3c.align(port, model)
    k3c.transfer(model, port, plan)
    return k3c.validate(port, model, plan=plan, inputs=torch.from_numpy(padded()), training=training)


def test_a_port_whose_batch_norm_takes_masked_steps_passes_with_the_mark_that_it_trains_differently() -> None:
    report = certificate(Port().eval(), masked_model())
    assert report.ok
    assert f"norm: {LEFT_OUT}" in report.section("hyperparameters").facts["differs in training only"]
    assert "norm (Keras leaves masked steps out" in report.section("gradients").facts["not tried in training mode"]
    assert "7 passed; trains differently, see hyperparameters" in str(report)


def test_a_port_whose_batch_norm_takes_masked_steps_fails_with_training() -> None:
    section = certificate(Port().eval(), masked_model(), training=True).section("hyperparameters")
    assert section.status == "failed"
    assert [(problem.torch, problem.keras, problem.fact) for problem in section.problems] == [
        ("norm", "norm", LEFT_OUT)
    ]


@pytest.mark.parametrize("options", [{"is_masked": False}, {"trainable": False}], ids=["no mask", "frozen"])
def test_a_batch_norm_without_a_mask_or_frozen_leaves_out_no_step(options: dict[str, bool]) -> None:
    report = certificate(Port().eval(), masked_model(**options))
    assert LEFT_OUT not in f"{report}"


def test_a_port_that_calls_batch_norm_with_the_stored_statistics_only_fails_with_training() -> None:
    port, model = PortWithAFunction().eval(), masked_model()
    assert "trains differently, see gradients" in str(certificate(port, model))
    failed = certificate(port, model, training=True).section("gradients")
    assert failed.status == "failed"
    assert "Keras normalises with the statistics of the batch, torch with its moving" in failed.problems[0].fact
    assert failed.problems[0].keras == "norm"


def test_a_dropout_inside_an_attention_with_a_mask_is_listed_as_not_converted() -> None:
    given = keras.Input((6, 5))
    steps = keras.layers.Masking()(given)
    model = keras.Model(given, keras.layers.Attention(dropout=0.3, name="attend")([steps, steps]))
    report = k3c.convert(model).report
    assert report is not None
    fact = report.section("hyperparameters").facts["acts in training, not converted"]
    assert fact == "attend: the dropout inside this layer (dropout=0.3) is not converted: torch trains without it"


def test_a_spectral_norm_is_listed_as_not_converted() -> None:
    layer = keras.layers.SpectralNormalization(keras.layers.Dense(4), name="spectral")
    report = k3c.convert(keras.Sequential([keras.Input((5,)), layer])).report
    assert report is not None
    fact = report.section("hyperparameters").facts["acts in training, not converted"]
    assert fact.startswith("spectral: in training Keras divides the kernel by its spectral norm before every call")


@pytest.mark.parametrize("from_file", [False, True], ids=["live", "file"])
def test_a_converted_batch_norm_along_another_axis_with_a_mask_is_listed_as_not_converted(
    from_file: bool, tmp_path: Path
) -> None:
    layers = [keras.layers.Masking(), keras.layers.BatchNormalization(axis=1, name="norm"), keras.layers.Dense(3)]
    model = keras.Sequential([keras.Input((6, 5)), *layers])
    if from_file:
        model.save(tmp_path / "model.keras")
    conversion = k3c.convert(tmp_path / "model.keras" if from_file else model)
    assert conversion.report is not None
    assert conversion.report.section("hyperparameters").facts["acts in training, not converted"].startswith("norm: ")
    assert "trains differently, see hyperparameters" in str(conversion.report)
    assert later(conversion, model).section("gradients").status == "failed"


def later(conversion: k3c.Conversion, model: keras.Model) -> Report:
    """The certificate of a converted module, with training, on inputs with padding."""
    inputs = torch.from_numpy(padded())
    return k3c.validate(conversion.model, model, plan=conversion.alignment, inputs=inputs, training=True)
