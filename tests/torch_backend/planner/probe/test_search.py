"""The probe on small models: values decide where names and order cannot."""

import keras
import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - the name that everybody gives it
from keras import layers
from torch import nn

import keras3conv as k3c
from keras3conv.alignment.plan import Alignment
from keras3conv.frameworks.keras import model as keras_side
from keras3conv.frameworks.torch import module as torch_side
from keras3conv.transforms import Array
from tests.support.models import randomize

RANDOM = np.random.default_rng(0)


def array(*shape: int) -> Array:
    return RANDOM.standard_normal(shape).astype("float32")


def decided(plan: Alignment) -> dict[str, str]:
    return {pair.torch: pair.decided_by for pair in plan.pairs}


def pairs(plan: Alignment) -> dict[str, str]:
    return {pair.torch: pair.keras for pair in plan.pairs}


def outputs_agree(module: nn.Module, model: keras.Model, given: Array, keras_given: Array | None = None) -> bool:
    ours = torch_side.run(module, given, float64=True).outputs[""]
    with keras_side.float64_mode(model):
        theirs = keras_side.run(model, given if keras_given is None else keras_given).outputs[""]
    return bool(np.allclose(ours, theirs, rtol=1e-10, atol=1e-12))


class Mess(nn.Module):
    """Equal layers with meaningless names, defined in reverse call order."""

    def __init__(self) -> None:
        super().__init__()
        self.unused = nn.Linear(6, 6)
        self.a1 = nn.Linear(6, 6)
        self.b7 = nn.LayerNorm(6, eps=1e-3)
        self.zz = nn.Linear(6, 6)
        self.c = nn.LayerNorm(6, eps=1e-3)
        self.q = nn.Linear(6, 6)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.relu(self.c(self.q(x)))
        x = x + F.relu(self.b7(self.zz(x)))
        return self.a1(x)


def tidy() -> keras.Model:
    inputs = keras.Input((6,))
    x = layers.Dense(6, name="one")(inputs)
    x = layers.ReLU()(layers.LayerNormalization(name="two")(x))
    y = layers.Dense(6, name="three")(x)
    x = layers.add([x, layers.ReLU()(layers.LayerNormalization(name="four")(y))])
    return keras.Model(inputs, layers.Dense(6, name="five")(x))


def test_equal_layers_with_meaningless_names_are_distinguished_by_their_outputs() -> None:
    module, model = randomize(Mess()), tidy()
    plan = k3c.align(module, model)
    assert pairs(plan) == {"q": "one", "c": "two", "zz": "three", "b7": "four", "a1": "five"}
    assert set(decided(plan).values()) == {"probe"}
    k3c.transfer(module, model, plan.ignore("unused", "never runs"))
    assert outputs_agree(module, model, array(3, 6))


def test_a_module_that_never_runs_is_reported_as_a_problem() -> None:
    problems = k3c.align(Mess(), tidy()).problems()
    assert [problem.torch for problem in problems] == ["unused"]


class Attention(nn.Module):
    """Query, key and value with meaningless names."""

    def __init__(self, order: str) -> None:
        super().__init__()
        for name in order:
            setattr(self, name, nn.Linear(8, 8))
        self.out = nn.Linear(8, 8)
        self.order = order

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        made = {name: getattr(self, name)(x) for name in self.order}
        return self.out(F.scaled_dot_product_attention(made["q"], made["k"], made["v"]))


class Attend(layers.Layer):
    """The Keras counterpart of `Attention`, with other meaningless names and another call order."""

    def __init__(self, **keywords: object) -> None:
        super().__init__(**keywords)
        self.first, self.second, self.third = (layers.Dense(8, name=name) for name in "rst")
        self.out = layers.Dense(8, name="u")

    def call(self, x: object) -> object:
        query, key, value = self.first(x), self.second(x), self.third(x)
        scores = keras.ops.matmul(query, keras.ops.transpose(key, (0, 2, 1))) / np.sqrt(8)
        return self.out(keras.ops.matmul(keras.ops.softmax(scores), value))


@pytest.mark.parametrize("order", ["qkv", "qvk", "kqv", "kvq", "vqk", "vkq"])
def test_layers_with_the_same_input_and_shapes_are_distinguished_by_later_layers(order: str) -> None:
    module = randomize(Attention(order))
    inputs = keras.Input((5, 8))
    model = keras.Model(inputs, Attend(name="attend")(inputs))
    plan = k3c.align(module, model, inputs=array(2, 5, 8)).check()
    assert pairs(plan) == {"q": "attend/r", "k": "attend/s", "v": "attend/t", "out": "attend/u"}
    assert set(decided(plan).values()) == {"probe"}


class Packed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.packed, self.out = nn.Linear(8, 24), nn.Linear(8, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        query, key, value = self.packed(x).chunk(3, -1)
        return self.out(F.scaled_dot_product_attention(query, key, value))


def test_one_packed_torch_layer_is_paired_with_three_keras_layers() -> None:
    module = randomize(Packed())
    inputs = keras.Input((5, 8))
    model = keras.Model(inputs, Attend(name="attend")(inputs))
    plan = k3c.align(module, model).check()
    assert pairs(plan) == {"packed": "attend/r + attend/s + attend/t", "out": "attend/u"}
    k3c.transfer(module, model, plan)
    assert outputs_agree(module, model, array(2, 5, 8))


class AttendPacked(layers.Layer):
    def __init__(self, **keywords: object) -> None:
        super().__init__(**keywords)
        self.packed, self.out = layers.Dense(24, name="packed"), layers.Dense(8, name="out")

    def call(self, x: object) -> object:
        query, key, value = keras.ops.split(self.packed(x), 3, axis=-1)
        scores = keras.ops.matmul(query, keras.ops.transpose(key, (0, 2, 1))) / np.sqrt(8)
        return self.out(keras.ops.matmul(keras.ops.softmax(scores), value))


@pytest.mark.parametrize("order", ["qkv", "vkq"])
def test_three_torch_layers_are_paired_with_one_packed_keras_layer(order: str) -> None:
    module = randomize(Attention(order))
    inputs = keras.Input((5, 8))
    model = keras.Model(inputs, AttendPacked(name="attend")(inputs))
    plan = k3c.align(module, model).check()
    assert pairs(plan)["q.weight + k.weight + v.weight"] == "attend/packed/kernel"
    k3c.transfer(module, model, plan)
    assert outputs_agree(module, model, array(2, 5, 8))
    fresh = randomize(Attention(order), seed=5)
    k3c.transfer(model, fresh, plan)
    assert all(torch.equal(value, fresh.state_dict()[name]) for name, value in module.state_dict().items())


class Patches(nn.Module):
    """Parameters outside of layers: a class token, a position table, a scale, and an unused one."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(6))
        self.places = nn.Parameter(torch.zeros(1, 17, 6))
        self.token = nn.Parameter(torch.zeros(1, 1, 6))
        self.mask = nn.Parameter(torch.zeros(1, 6))
        self.embed = nn.Conv2d(3, 6, 4, stride=4)
        self.head = nn.Linear(6, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.embed(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(len(x), -1, -1), x], 1) + self.places
        return self.head(x * self.scale)[:, 0]


class PatchLayer(layers.Layer):
    def __init__(self, **keywords: object) -> None:
        super().__init__(**keywords)
        self.embed = layers.Conv2D(6, 4, strides=4, name="embed")

    def build(self, shape: object) -> None:
        self.embed.build(shape)
        self.table = self.add_weight(shape=(17, 6), name="table")
        self.mask = self.add_weight(shape=(6,), name="mask")
        self.start = self.add_weight(shape=(6,), name="start")
        self.gamma = self.add_weight(shape=(6,), name="gamma")

    def call(self, x: object) -> object:
        x = keras.ops.reshape(self.embed(x), (-1, 16, 6))
        start = keras.ops.broadcast_to(self.start, (keras.ops.shape(x)[0], 1, 6))
        return (keras.ops.concatenate([start, x], 1) + self.table) * self.gamma


def test_the_next_layer_confirms_parameters_outside_of_any_layer() -> None:
    module = randomize(Patches())
    inputs = keras.Input((16, 16, 3))
    x = PatchLayer(name="patches")(inputs)
    model = keras.Model(inputs, layers.Dense(4, name="head")(x)[:, 0])
    plan = k3c.align(module, model).check()
    assert pairs(plan) == {
        "embed": "patches/embed",
        "token": "patches/start",
        "places": "patches/table",
        "scale": "patches/gamma",
        "mask": "patches/mask",
        "head": "head",
    }
    assert {name for name, kind in decided(plan).items() if kind == "probe"} == set(pairs(plan)) - {"mask"}
    mask = plan.of("mask")
    assert mask is not None
    assert mask.evidence[-1].detail == "no other parameter has this shape; no output depends on it"


class Norm(nn.Module):
    """A normalization without a rule."""

    def __init__(self) -> None:
        super().__init__()
        self.b, self.a = nn.Parameter(torch.zeros(6)), nn.Parameter(torch.ones(6))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x / x.float().square().mean(-1, keepdim=True).add(1e-6).sqrt().to(x.dtype) * self.a + self.b


class KerasNorm(layers.Layer):
    def build(self, shape: object) -> None:
        self.scale, self.shift = (self.add_weight(shape=(6,), name=name) for name in ("scale", "shift"))

    def call(self, x: object) -> object:
        wide = keras.ops.cast(x, "float32")
        root = keras.ops.sqrt(keras.ops.mean(keras.ops.square(wide), -1, keepdims=True) + 1e-6)
        return x / keras.ops.cast(root, self.compute_dtype) * self.scale + self.shift


def test_layers_that_no_rule_knows_are_paired_tensor_by_tensor() -> None:
    module = randomize(nn.Sequential(Norm(), nn.Linear(6, 6), Norm(), nn.Linear(6, 2)))
    model = keras.Sequential(
        [
            keras.Input((6,)),
            KerasNorm(name="n"),
            layers.Dense(6, name="d"),
            KerasNorm(name="m"),
            layers.Dense(2, name="e"),
        ]
    )
    plan = k3c.align(module, model).check()
    expected = {"0.a": "n/scale", "0.b": "n/shift", "1": "d", "2.a": "m/scale", "2.b": "m/shift", "3": "e"}
    assert pairs(plan) == expected
    assert set(decided(plan).values()) == {"probe"}
    assert "their outputs agree" in plan.notes[-1]


class Shared(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.last, self.often, self.first = nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 6)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.first(x)
        for _ in range(3):
            x = torch.tanh(self.often(x))
        return self.last(x)


def test_a_layer_that_runs_several_times_is_paired_once() -> None:
    module = randomize(Shared())
    inputs, often = keras.Input((6,)), layers.Dense(6, "tanh", name="again")
    x = layers.Dense(6, name="start")(inputs)
    for _ in range(3):
        x = often(x)
    model = keras.Model(inputs, layers.Dense(6, name="end")(x))
    plan = k3c.align(module, model).check()
    assert pairs(plan) == {"first": "start", "often": "again", "last": "end"}
    assert outputs_agree_after(module, model, plan)


def outputs_agree_after(module: nn.Module, model: keras.Model, plan: Alignment) -> bool:
    k3c.transfer(module, model, plan)
    return outputs_agree(module, model, array(2, 6))


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(6, 11, bias=False)
        self.middle = nn.Linear(6, 6)
        self.words = nn.Embedding(11, 6)
        self.head.weight = self.words.weight

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.head(self.middle(self.words(tokens)))


def test_tied_weights_are_one_tensor() -> None:
    module = randomize(Tied())
    tokens = RANDOM.integers(0, 11, (2, 4))
    inputs, words = keras.Input((4,), dtype="int32"), layers.ReversibleEmbedding(11, 6, name="table")
    model = keras.Model(inputs, words(layers.Dense(6, name="inner")(words(inputs)), reverse=True))
    plan = k3c.align(module, model, inputs=tokens, keras_inputs=tokens.astype("int32")).check()
    assert pairs(plan) == {"words": "table", "middle": "inner"}


def convolutional() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4, eps=1e-3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 20, 5)
    )


def test_the_rows_of_a_kernel_are_permuted_if_both_sides_flatten_before_it() -> None:
    module = randomize(convolutional())
    inputs = keras.Input((4, 5, 3))
    x = layers.BatchNormalization(name="norm")(layers.Conv2D(4, 3, padding="same", name="conv")(inputs))
    model = keras.Model(inputs, layers.Dense(5, name="fc")(layers.Flatten()(layers.ReLU()(x))))
    plan = k3c.align(module, model).check()
    k3c.transfer(module, model, plan)
    given = array(2, 3, 4, 5)
    assert outputs_agree(module, model, given, np.moveaxis(given, 1, -1).copy())


@pytest.mark.parametrize(("epsilon", "kind"), [(1e-3, "probe"), (2e-3, "probe"), (0.5, "forced")])
def test_a_layer_with_another_epsilon_is_named_and_the_layers_after_it_are_still_confirmed(
    epsilon: float, kind: str
) -> None:
    module = randomize(Mess())
    model = tidy()
    model.get_layer("two").epsilon = epsilon
    plan = k3c.align(module, model)
    assert pairs(plan) == {"q": "one", "c": "two", "zz": "three", "b7": "four", "a1": "five"}
    pair = plan.of("two")
    assert pair is not None
    assert pair.decided_by == kind
    assert ("differs by" in pair.evidence[-1].detail) == (epsilon != 1e-3)
    assert {pair.decided_by for pair in plan.pairs if pair.keras != "two"} == {"probe"}
    assert ("they differ, first at two" in plan.notes[-1]) == (epsilon != 1e-3)


def test_a_missing_activation_is_named_at_the_layers_after_it() -> None:
    module, inputs = randomize(Mess()), keras.Input((6,))
    x = layers.LayerNormalization(name="two")(layers.Dense(6, name="one")(inputs))
    y = layers.Dense(6, name="three")(x)
    x = layers.add([x, layers.ReLU()(layers.LayerNormalization(name="four")(y))])
    plan = k3c.align(module, keras.Model(inputs, layers.Dense(6, name="five")(x)))
    assert pairs(plan) == {"q": "one", "c": "two", "zz": "three", "b7": "four", "a1": "five"}
    assert [pair.keras for pair in plan.pairs if pair.decided_by == "forced"] == ["five", "three"]
