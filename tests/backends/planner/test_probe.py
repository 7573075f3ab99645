"""The probe on every backend: values decide which tensors correspond, and both models stay unchanged."""

import keras
import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - the name that everybody gives it
from keras import layers
from torch import nn

import keras3conv as k3c
from keras3conv.errors import ModelError
from keras3conv.frameworks.keras import model as keras_side
from keras3conv.frameworks.torch import module as torch_side
from keras3conv.transforms import Array
from tests.support.models import randomize

RANDOM = np.random.default_rng(0)


class Picture(nn.Module):
    """Convolutions of one shape, defined in reverse call order, and a permuted flatten."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(4 * 12, 5)
        self.norm = nn.BatchNorm2d(4, eps=1e-3)
        self.y = nn.Conv2d(4, 4, 3, padding=1)
        self.x = nn.Conv2d(4, 4, 3, padding=1)
        self.stem = nn.Conv2d(3, 4, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.relu(self.x(self.stem(x)))
        return self.head(torch.tanh(self.norm(self.y(x))).flatten(1))


def picture() -> keras.Model:
    inputs = keras.Input((4, 3, 3))
    x = layers.Conv2D(4, 3, padding="same", name="one")(inputs)
    x = layers.Conv2D(4, 3, padding="same", activation="relu", name="two")(x)
    x = layers.Conv2D(4, 3, padding="same", name="three")(x)
    x = layers.Activation("tanh")(layers.BatchNormalization(name="four")(x))
    return keras.Model(inputs, layers.Dense(5, name="five")(layers.Flatten()(x)))


class Attention(nn.Module):
    """Value, key and query in an uninformative order, a class token and a position embedding."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c, self.d = (nn.Linear(8, 8) for _ in range(4))
        self.table = nn.Parameter(torch.zeros(1, 6, 8))
        self.token = nn.Parameter(torch.zeros(1, 1, 8))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.cat([self.token.expand(len(x), -1, -1), x], 1) + self.table
        value, key, query = self.c(x), self.b(x), self.a(x)
        return self.d(F.scaled_dot_product_attention(query, key, value))


class Attend(layers.Layer):
    def __init__(self, **keywords: object) -> None:
        super().__init__(**keywords)
        self.parts = [layers.Dense(8, name=name) for name in "rstu"]

    def build(self, shape: object) -> None:
        self.start = self.add_weight(shape=(1, 1, 8), name="start")
        self.places = self.add_weight(shape=(6, 8), name="places")
        for part in self.parts:
            part.build((None, 6, 8))

    def call(self, x: object) -> object:
        start = keras.ops.broadcast_to(self.start, (keras.ops.shape(x)[0], 1, 8))
        x = keras.ops.concatenate([start, x], 1) + self.places
        query, key, value = (part(x) for part in self.parts[:3])
        scores = keras.ops.matmul(query, keras.ops.transpose(key, (0, 2, 1))) / np.sqrt(8)
        return self.parts[3](keras.ops.matmul(keras.ops.softmax(scores), value))


def attend() -> keras.Model:
    inputs = keras.Input((5, 8))
    return keras.Model(inputs, Attend(name="attend")(inputs))


class Sequence(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.head, self.late, self.early = nn.Linear(6, 2), nn.LSTM(6, 6, batch_first=True), nn.GRU(4, 6)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        early, _ = self.early(x.transpose(0, 1))
        return self.head(self.late(early.transpose(0, 1))[0])


def sequence() -> keras.Model:
    inputs = keras.Input((5, 4))
    x = layers.LSTM(6, return_sequences=True, name="two")(layers.GRU(6, return_sequences=True, name="one")(inputs))
    return keras.Model(inputs, layers.Dense(2, name="three")(x))


PAIRS = {
    "picture": (
        Picture,
        picture,
        (2, 3, 4, 3),
        {"stem": "one", "x": "two", "y": "three", "norm": "four", "head": "five"},
    ),
    "attention": (
        Attention,
        attend,
        (2, 5, 8),
        {f"{name}": f"attend/{other}" for name, other in zip("abcd", "rstu", strict=True)}
        | {"token": "attend/start", "table": "attend/places"},
    ),
    "sequence": (Sequence, sequence, (2, 5, 4), {"early": "one", "late": "two", "head": "three"}),
}


def coarse(module: nn.Module) -> nn.Module:
    """Fill a module with values of few binary digits, so that the sum of the two biases of an LSTM is exact."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(parameter.half())
    return module


def values(model: keras.Model) -> list[Array]:
    return [np.array(keras_side.to_numpy(variable)) for variable in model.variables]


@pytest.mark.parametrize("name", PAIRS)
def test_the_probe_pairs_tensors_by_values_and_leaves_both_models_unchanged(name: str) -> None:
    make, twin, shape, expected = PAIRS[name]
    module, model = coarse(randomize(make())), twin()
    given = RANDOM.standard_normal(shape).astype("float32")
    keras_given = np.moveaxis(given, 1, -1).copy() if len(shape) == 4 else given
    before, dtype, call = values(model), keras.config.floatx(), keras.layers.Layer.__call__
    plan = k3c.align(module, model, inputs=given).check()
    assert {pair.torch: pair.keras for pair in plan.pairs} == expected
    assert {pair.decided_by for pair in plan.pairs} == {"probe"}
    assert all(np.array_equal(*pair) for pair in zip(before, values(model), strict=True))
    assert (keras.config.floatx(), keras.layers.Layer.__call__) == (dtype, call)
    k3c.transfer(module, model, plan)
    ours = torch_side.run(module, given, float64=True).outputs[""]
    with keras_side.precise(), keras_side.float64_mode(model):
        theirs = keras_side.run(model, keras_given).outputs[""]
    assert np.allclose(ours, theirs, rtol=1e-10, atol=1e-12)


def test_the_probe_reports_a_difference_and_continues() -> None:
    module, model = randomize(Picture()), picture()
    model.get_layer("four").epsilon = 2e-3
    plan = k3c.align(module, model)
    pair = plan.of("four")
    assert pair is not None
    assert "differs by" in pair.evidence[-1].detail
    assert {pair.decided_by for pair in plan.pairs} == {"probe"}
    assert plan.notes[-1].endswith("they differ, first at four")


def test_a_layer_that_raises_is_named_and_both_models_are_restored(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> object:
        raise ValueError("planted")

    model = picture()
    before, call = values(model), keras.layers.Layer.__call__
    monkeypatch.setattr(model.get_layer("three"), "call", fail)
    given = RANDOM.standard_normal((2, 3, 4, 3)).astype("float32")
    said = r"three +\(keras\) +ValueError: planted\nFix: +k3c.align\(module, model, probe=False\)"
    with pytest.raises(ModelError, match=said):
        k3c.align(Picture(), model, inputs=given)
    assert all(np.array_equal(*pair) for pair in zip(before, values(model), strict=True))
    assert keras.layers.Layer.__call__ is call
    assert keras.backend.standardize_dtype("float32") == "float32"


def test_both_models_are_restored_after_an_interrupt(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object, **__: object) -> object:
        raise KeyboardInterrupt

    module, model = randomize(Picture()), picture()
    tensors = {name: value.clone() for name, value in module.state_dict().items()}
    before, dtype, call = values(model), keras.config.floatx(), keras.layers.Layer.__call__
    policies = [layer.dtype_policy.name for layer in model.layers]
    monkeypatch.setattr(model.get_layer("four"), "call", interrupt)
    with pytest.raises(KeyboardInterrupt):
        k3c.align(module, model)
    assert all(np.array_equal(*pair) for pair in zip(before, values(model), strict=True))
    assert all(torch.equal(value, module.state_dict()[name]) for name, value in tensors.items())
    assert (keras.config.floatx(), keras.layers.Layer.__call__) == (dtype, call)
    assert [layer.dtype_policy.name for layer in model.layers] == policies
    assert [str(variable.dtype) for variable in model.variables] == [array.dtype.name for array in before]
    monkeypatch.undo()
    assert k3c.align(module, model).problems() == ()


class Root(layers.Layer):
    """Return NaN for negative values."""

    def call(self, x: object) -> object:
        return keras.ops.sqrt(x)


def test_a_keras_layer_that_returns_nan_is_named() -> None:
    module = randomize(nn.Sequential(nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 2)))
    inputs = keras.Input((6,))
    x = Root(name="root")(layers.Dense(6, name="one")(inputs))
    model = keras.Model(inputs, layers.Dense(2, name="two")(x))
    before = values(model)
    with pytest.raises(ModelError, match=r"root +\(keras\) +this layer returned NaN"):
        k3c.align(module, model, inputs=RANDOM.standard_normal((2, 6)).astype("float32"))
    assert all(np.array_equal(*pair) for pair in zip(before, values(model), strict=True))
    plan = k3c.align(module, model)
    assert {pair.torch: pair.keras for pair in plan.pairs} == {"0": "one", "2": "two"}
    assert "root (keras) this layer returned NaN" in plan.notes[0]
