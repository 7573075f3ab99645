"""The call graph distinguishes branches, whatever the call order and the definition order."""

import keras
import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - the name that everybody gives it
from torch import nn

import keras3conv as k3c
from keras3conv.workflows.ordered import views_by_call_order

SIZE = (1, 4, 6, 6)


class Branches(nn.Module):
    """Four branches of equal layers: one deep, two short, of which one after a pooling; and a shortcut."""

    def __init__(self) -> None:
        super().__init__()
        self.z = nn.Conv2d(4, 4, 3, padding=1)
        self.y = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 4, 3, padding=1))
        self.x = nn.Conv2d(4, 4, 3, padding=1)
        self.w = nn.Conv2d(12, 4, 1)

    def forward(self, v: torch.Tensor) -> torch.Tensor:
        pooled = self.z(F.max_pool2d(v, 3, 1, 1))
        out = v.new_empty(v.shape[0], 12, *v.shape[2:])
        out[:, :4] = self.x(v)
        out[:, 4:8] = self.y(v)
        out[:, 8:] = pooled
        return F.relu_(self.w(out)) + v


def branches() -> keras.Model:
    """Return the Keras counterpart, with the deep branch first and the pooled one in the middle."""
    inputs = keras.Input((6, 6, 4))
    conv = {name: keras.layers.Conv2D(4, 3, padding="same", name=name) for name in ("one", "two", "three", "four")}
    deep = conv["two"](keras.layers.ReLU()(conv["one"](inputs)))
    pooled = conv["three"](keras.layers.MaxPooling2D(3, 1, padding="same")(inputs))
    joined = keras.layers.Concatenate(name="joined")([conv["four"](inputs), deep, pooled])
    last = keras.layers.Conv2D(4, 1, activation="relu", name="last")(joined)
    return keras.Model(inputs, keras.layers.Add()([last, inputs]))


class Subclassed(keras.Model):
    """The network as a subclassed Keras model, with operations outside of layers."""

    def __init__(self) -> None:
        super().__init__()
        for name in ("four", "three", "two", "one"):
            setattr(self, name, keras.layers.Conv2D(4, 3, padding="same", name=name))
        self.last = keras.layers.Conv2D(4, 1, activation="relu", name="last")

    def call(self, inputs: object) -> object:
        deep = self.two(keras.ops.relu(self.one(inputs)))
        pooled = self.three(keras.ops.max_pool(inputs, 3, 1, padding="same"))
        return self.last(keras.ops.concatenate([self.four(inputs), deep, pooled], axis=-1)) + inputs


RIGHT = {"x": "four", "y.0": "one", "y.2": "two", "z": "three", "w": "last"}


@pytest.mark.parametrize("model", [branches, Subclassed])
def test_branches_of_equal_layers_are_distinguished_by_the_call_graph(model: type[keras.Model]) -> None:
    ours, theirs, inputs = Branches(), model(), torch.rand(SIZE)
    plan = k3c.align(ours, theirs, inputs=inputs).check()
    assert {pair.torch: pair.keras for pair in plan.pairs} == RIGHT
    assert {pair.decided_by for pair in plan.pairs} <= {"shape", "data flow", "probe"}
    assert not any(pair.unconfirmed for pair in plan.pairs)
    k3c.transfer(ours, theirs, plan)
    k3c.validate(ours, theirs, inputs=inputs, alignment=plan).raise_if_failed()


def test_the_call_graph_passes_through_operations_without_weights() -> None:
    torch_view, keras_view = views_by_call_order(Branches(), branches(), torch.rand(SIZE), None)
    torch_layers = {layer.path: layer for layer in torch_view.layers}
    keras_layers = {layer.path: layer for layer in keras_view.layers}
    assert torch_layers["w"].run.follows == ("x", "y", "z")
    assert torch_layers["y"].run.passes == ("y.2",)
    assert torch_layers["x"].run.beside == ("y.0", "x")
    assert torch_layers["z"].run.beside == ("z",)
    assert keras_layers["last"].run.follows == ("four", "three", "two")


class Twins(nn.Module):
    """Two layers that differ only in their names."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.a(x) * self.b(x)


def test_layers_with_the_same_position_in_the_call_graph_are_unconfirmed() -> None:
    inputs = keras.Input((4,))
    first, second = keras.layers.Dense(4, name="p")(inputs), keras.layers.Dense(4, name="q")(inputs)
    model = keras.Model(inputs, keras.layers.Multiply()([first, second]))
    views = views_by_call_order(Twins(), model, None, None)
    from keras3conv.planner.plan import plan

    pairs = plan(*views).pairs
    assert [(pair.keras, pair.decided_by, pair.unconfirmed, pair.candidates) for pair in pairs] == [
        ("p", "call order", True, ("q",)),
        ("q", "call order", True, ("p",)),
    ]
    assert pairs[0].evidence[-1].detail == "2 layers have the same position in the call graph"


def test_layers_that_run_twice_are_paired_by_call_order() -> None:
    class Again(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.a(self.b(self.a(self.b(x))))

    inputs = keras.Input((4,))
    one, two = keras.layers.Dense(4, name="one"), keras.layers.Dense(4, name="two")
    model = keras.Model(inputs, one(two(one(two(inputs)))))
    plan = k3c.align(Again(), model).check()
    assert {pair.torch: pair.keras for pair in plan.pairs} == {"a": "one", "b": "two"}


class Backwards(nn.Module):
    """Two equal layers, of which the first processes the sequence in reverse, outside of any rule."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = (nn.LSTM(4, 4, batch_first=True) for _ in range(2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        made: torch.Tensor = self.second(self.first(x.flip(1))[0])[0]
        return made


def test_positions_do_not_confirm_pairs_if_the_numbers_of_layers_differ() -> None:
    layers = [keras.layers.LSTM(4, return_sequences=True, go_backwards=first) for first in (True, False)]
    model = keras.Sequential([keras.Input((5, 4)), *layers])
    plan = k3c.align(Backwards(), model, probe=False)
    assert plan.unconfirmed
    module = Backwards()
    k3c.transfer(module, model, k3c.align(module, model).check())
    assert k3c.validate(module, model, proofs=("float64",)).ok
