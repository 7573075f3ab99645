"""Layers with an adapter, and quantized layers, of the torch side and in files: refused by name, never ignored."""

from pathlib import Path

import keras
import pytest
import torch
from keras import layers
from torch import nn

import keras3conv as k3c
from keras3conv.alignment.plan import Alignment

WEIGHTS = {"fc1.weight": torch.ones(6, 4), "fc1.bias": torch.ones(6), "fc2.weight": torch.ones(3, 6)}


def network() -> keras.Model:
    given = keras.Input((4,))
    return keras.Model(given, layers.Dense(3, use_bias=False, name="fc2")(layers.Dense(6, name="fc1")(given)))


def saved(tmp_path: Path, **more: torch.Tensor) -> Path:
    path = tmp_path / "net.pt"
    torch.save(WEIGHTS | {name.replace("__", "."): value for name, value in more.items()}, path)
    return path


def facts(plan: Alignment) -> dict[str, str]:
    return {problem.torch: problem.fact for problem in plan.problems() if problem.torch}


@pytest.mark.parametrize(
    "names",
    [
        ("lora_A.default.weight", "lora_B.default.weight"),  # peft
        ("lora_A", "lora_B"),  # loralib
        ("lora_down.weight", "lora_up.weight"),  # kohya
    ],
)
def test_an_adapter_in_a_file_is_named(names: tuple[str, str], tmp_path: Path) -> None:
    shapes = (2, 4), (6, 2)
    more = {f"fc1.{name}": torch.ones(shape) for name, shape in zip(names, shapes, strict=True)}
    plan = k3c.align(saved(tmp_path, **more), network())
    assert "has a LoRA adapter beside its weight" in facts(plan)["fc1"]
    assert not any("ignore" in fix for problem in plan.problems() for fix in problem.fixes)


class Adapted(nn.Linear):
    """A Linear of loralib: the adapter is in the layer itself."""

    def __init__(self) -> None:
        super().__init__(4, 6)
        self.lora_A, self.lora_B = nn.Parameter(torch.ones(2, 4)), nn.Parameter(torch.ones(6, 2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x) + x @ self.lora_A.T @ self.lora_B.T


def test_an_adapter_in_a_layer_is_named() -> None:
    plan = k3c.align(nn.Sequential(Adapted(), nn.Linear(6, 3, bias=False)), network())
    assert "has a LoRA adapter beside its weight" in facts(plan)["0"]


@pytest.mark.parametrize(
    "more",
    [
        {"fc1.weight": torch.ones(6, 4, dtype=torch.int8)},  # without scales, it would be read as numbers
        {"fc1.weight": torch.ones(6, 4, dtype=torch.int8), "fc1.weight_scale": torch.ones(6)},
        {"fc1.weight": torch.ones(6, 4).to(torch.float8_e4m3fn), "fc1.weight_scale_inv": torch.ones(1, 1)},
        {"fc1.qweight": torch.ones(1, 6, dtype=torch.int32), "fc1.scales": torch.ones(1, 6)},
        {"fc1.weight": torch.ones(12, 1, dtype=torch.uint8), "fc1.weight.absmax": torch.ones(2)},
    ],
)
def test_a_quantized_weight_in_a_file_is_named(more: dict[str, torch.Tensor], tmp_path: Path) -> None:
    plan = k3c.align(saved(tmp_path, **more), network())
    assert "quantized" in facts(plan)["fc1"]
    assert not any(problem.fixes for problem in plan.problems())


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Layer InputLayer does not have")
@pytest.mark.parametrize("suffix", [".keras", ".weights.h5"])
def test_a_quantized_keras_file_is_named(suffix: str, tmp_path: Path) -> None:
    model = network()
    model.quantize("int8")
    path = tmp_path / f"quantized{suffix}"
    model.save(path) if suffix == ".keras" else model.save_weights(path)
    plan = k3c.align(saved(tmp_path), path)
    assert any("quantized" in problem.fact for problem in plan.problems() if problem.keras)
