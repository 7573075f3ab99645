"""Beside a layer of a Sequential, the line to paste is a layer; in a model that calls its layers, it is a call."""

from pathlib import Path

import keras
import pytest
import torch
from keras import layers
from torch import nn

import keras3conv as k3c
from keras3conv.validators.diagnosis.lines import lines_in_keras, lines_in_torch
from keras3conv.validators.running.subject import Subject
from tests.support.cli_runs import run
from tests.support.models import randomize


class Stub:
    """The two models of a subject."""

    torch = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Sequential(nn.Linear(2, 2)), nn.ModuleDict({"a": nn.Linear(2, 2)}))
    keras = keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            layers.Conv2D(4, 3, name="conv"),
            keras.Sequential([layers.Dense(3, name="a")], name="inner"),
        ]
    )


STUB: Subject = Stub()  # type: ignore[assignment]


@pytest.mark.parametrize(
    ("line", "layer"),
    [
        ("x = F.pad(x, (0, 1, 0, 1))  # before 0; note", "nn.ZeroPad2d((0, 1, 0, 1))  # torch: before layer 0; note"),
        ('x = F.pad(x, (0, 1), value=-float("inf"))  # before 0', 'nn.ConstantPad1d((0, 1), -float("inf"))'),
        (
            'x = F.pad(x, (0, 1, 0, 1), mode="replicate")  # before 0',
            "nn.ReplicationPad2d((0, 1, 0, 1))  # torch: before",
        ),
        ("x = F.leaky_relu(x, 0.2)  # 1.0, for relu", "nn.LeakyReLU(0.2)  # torch: layer 1.0, for relu"),
        ("x = F.relu(x)  # 2.a", "x = F.relu(x)  # torch: layer 2.a"),
        ("x = torch.abs(x)  # 0", "x = torch.abs(x)  # torch: layer 0"),
        ("x = F.relu(x)  # at the end", "x = F.relu(x)  # torch: at the end"),
    ],
)
def test_a_line_for_torch_is_a_layer_in_a_sequential(line: str, layer: str) -> None:
    assert lines_in_torch(STUB, line).startswith(layer)


@pytest.mark.parametrize(
    ("line", "layer"),
    [
        ("x = keras.layers.ZeroPadding2D(1)(x)  # before conv", "keras.layers.ZeroPadding2D(1)  # Keras: before conv"),
        ("x = keras.activations.silu(x)  # before inner/a", 'keras.layers.Activation("silu")  # Keras: before inner/a'),
        (
            "x = keras.ops.pad(x, [(0, 0), (1, 1)])  # before conv",
            "keras.layers.Lambda(lambda x: keras.ops.pad(x, [(0, 0), (1, 1)]))  # Keras: before conv",
        ),
        (
            "x = keras.layers.AveragePooling2D((3, 3))(keras.layers.ZeroPadding2D(1)(x))  # in conv",
            "keras.layers.ZeroPadding2D(1), keras.layers.AveragePooling2D((3, 3))  # Keras: in conv",
        ),
        (
            "x = keras.layers.MaxPooling2D(2)(keras.ops.pad(x, [(0, 1)]))  # in conv",
            "keras.layers.Lambda(lambda x: keras.ops.pad(x, [(0, 1)])), keras.layers.MaxPooling2D(2)  # Keras: in conv",
        ),
        ("x = keras.activations.silu(x)  # before other", "x = keras.activations.silu(x)  # Keras: before other"),
        ('padding="valid"  # conv', 'padding="valid"  # Keras: conv'),
    ],
)
def test_a_line_for_keras_is_a_layer_in_a_sequential(line: str, layer: str) -> None:
    assert lines_in_keras(STUB, line) == layer


def test_the_lines_for_a_padding_mend_either_sequential() -> None:
    def in_torch(*more: nn.Module, padding: int = 1) -> nn.Module:
        torch.manual_seed(0)
        return nn.Sequential(*more, nn.Conv2d(3, 4, 3, stride=2, padding=padding))

    def in_keras(*more: keras.Layer, padding: str = "same") -> keras.Model:
        return keras.Sequential(
            [keras.Input((8, 8, 3)), *more, layers.Conv2D(4, 3, strides=2, padding=padding, name="conv")]
        )

    def report(module: nn.Module, model: keras.Model) -> k3c.Report:
        plan = k3c.align(randomize(module), model)
        k3c.transfer(module, model, plan, accept_difference=True)
        return k3c.validate(module, model, plan=plan, proofs=["hyperparameters", "float64"])

    failed = report(in_torch(), in_keras())
    for section in failed.with_status("failed"):
        torch_lines, keras_lines = section.problems[0].fixes
        layer, argument = torch_lines.split("\n")
        assert layer.startswith("nn.ZeroPad2d((0, 1, 0, 1))  # torch: before layer 0")
        assert argument == "padding=0  # torch: layer 0"
        assert keras_lines.split("\n")[0] == "keras.layers.ZeroPadding2D(((1, 1), (1, 1)))  # Keras: before conv"
    assert report(in_torch(nn.ZeroPad2d((0, 1, 0, 1)), padding=0), in_keras()).ok
    assert report(in_torch(), in_keras(layers.ZeroPadding2D(((1, 1), (1, 1))), padding="valid")).ok


def test_each_torch_layer_for_a_padding_exists() -> None:
    for mode, values in (
        ("replicate", "1.0 1.0 2.0 2.0"),
        ("reflect", "2.0 1.0 2.0 1.0"),
        ("circular", "2.0 1.0 2.0 1.0"),
    ):
        code, _, _ = lines_in_torch(STUB, f'x = F.pad(x, (1, 1), mode="{mode}")  # before 0').partition("  #")
        layer = eval(code, {"nn": nn})  # noqa: S307 - our own line
        assert " ".join(map(str, layer(torch.tensor([[1.0, 2.0]])).flatten().tolist())) == values


def test_a_setting_is_named_before_weights_that_were_not_transferred(tmp_path: Path) -> None:
    (tmp_path / "causal_nets.py").write_text(
        "import keras\nimport torch\nfrom torch import nn\n"
        "def net():\n    torch.manual_seed(0)\n    return nn.Sequential(nn.Conv1d(3, 4, 3, padding=1))\n"
        "def twin():\n    return keras.Sequential([keras.Input((8, 3)), keras.layers.Conv1D(4, 3, padding='causal')])\n"
    )
    nets = f"{tmp_path / 'causal_nets.py'}:"
    failed = run("validate", f"{nets}net", f"{nets}twin")
    assert failed.exit_code == 1
    assert "padding" in failed.output.partition("structure")[0]
    assert "were called without" in failed.output
