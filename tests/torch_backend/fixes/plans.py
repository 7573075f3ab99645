"""Errors of plans and transfers whose message prints a line to paste."""

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import torch
from keras import layers
from torch import nn

import keras3conv as k3c
from tests.support.fixes import Scope, case
from tests.torch_backend.planner.test_tied import Tied, untied, words

NAMES: Scope = {"k3c": k3c, "keras": keras, "torch": torch, "np": np, "numpy": np}


class Net(nn.Module):
    def __init__(self, first: str = "a", last: str = "b") -> None:
        super().__init__()
        self.names = first, last
        self.add_module(first, nn.Linear(3, 4))
        self.add_module(last, nn.Linear(4, 2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        made: torch.Tensor = getattr(self, self.names[1])(torch.relu(getattr(self, self.names[0])(x)))
        return made


def network(*, units: int = 4, **options: Any) -> keras.Model:
    given = keras.Input((3,))
    hidden = layers.Dense(units, activation="relu", name="a", **options)(given)
    return keras.Model(given, layers.Dense(2, name="b", **options)(hidden))


def pair(**options: Any) -> Scope:
    """The models and their plan, under the names that messages use."""
    module, model = Net(), network(**options)
    plan = k3c.align(module, model, probe=False)
    return NAMES | {"module": module, "model": model, "source": module, "target": model, "plan": plan}


class Bent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(3, 3), nn.Linear(3, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        made: torch.Tensor = torch.sin(3 * self.b(self.a(x)))
        return made


@case(
    "keras3conv/alignment/plan.py:Alignment.check",
    "k3c.transfer(source, target, plan)",
    then="k3c.transfer(source, target, plan, accept_difference=True)",
)
def a_plan_that_knows_of_a_difference(_: Path) -> Scope:
    module = Bent()
    model = keras.Sequential([keras.Input((3,)), layers.Dense(3, name="a"), layers.Dense(3, name="b")])
    plan = k3c.align(module, model, inputs=torch.randn(2, 3))
    return NAMES | {"source": module, "target": model, "torch": module, "keras": model, "plan": plan}


@case("keras3conv/alignment/plan.py:Alignment.ignore", 'plan = plan.ignore("a", "reason")', then="plan.ignored")
def a_path_of_both_sides(_: Path) -> Scope:
    return pair()


@case("keras3conv/alignment/problems.py:misfits", "plan.check()", further="matched nothing")
def a_pair_of_other_shapes(_: Path) -> Scope:
    return pair() | {"plan": replace(pair()["plan"], keras=pair(units=5)["plan"].keras)}


@case("keras3conv/alignment/problems.py:_unplaced_layer", "plan.check()", further="matched|initial value")
def layers_without_a_pair(_: Path) -> Scope:
    names = pair()
    return names | {"plan": names["plan"].unpair("a")}


@case("keras3conv/alignment/problems.py:_unplaced_layer", "plan.check()", further="matched|initial value")
def parameters_of_the_model_itself(_: Path) -> Scope:
    """Two parameters without a pair, one of which has the name of a Keras layer."""

    class Scaled(Net):
        def __init__(self) -> None:
            super().__init__()
            self.head, self.tokens = nn.Parameter(torch.rand(7)), nn.Parameter(torch.rand(11))

    given = keras.Input((3,))
    hidden = layers.Dense(4, activation="relu", name="a")(given)
    model = keras.Model(given, layers.Dense(5, name="head")(layers.Dense(2, name="b")(hidden)))
    return NAMES | {"plan": k3c.align(Scaled(), model, probe=False)}


@case("keras3conv/alignment/problems.py:unplaced#2", "plan.check()")
def a_table_of_positions_with_more_rows(_: Path) -> Scope:
    class Table(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.pos_embed = nn.Parameter(torch.randn(14, 8))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + self.pos_embed[2:]

    class Added(layers.Layer):
        def build(self, _: Any) -> None:
            self.table = self.add_weight(shape=(12, 8), name="pos_embed")

        def call(self, inputs: Any) -> Any:
            return inputs + self.table

    module, model = Table(), keras.Sequential([keras.Input((12, 8)), Added(name="places")])
    return NAMES | {"plan": k3c.align(module, model, probe=False)}


def words_of(rows: int, other: int) -> Scope:
    module = nn.Sequential()
    module.add_module("word", nn.Embedding(rows, 6))
    module.add_module("fc", nn.Linear(6, 4))
    given = keras.Input((5,), dtype="int32")
    model = keras.Model(given, layers.Dense(4, name="fc")(layers.Embedding(other, 6, name="word")(given)))
    return NAMES | {"module": module, "model": model, "plan": k3c.align(module, model, probe=False)}


@case("keras3conv/alignment/problems.py:unplaced#2", "plan.check()", then="k3c.transfer(module, model, plan.check())")
def a_vocabulary_that_is_filled_up_in_torch(_: Path) -> Scope:
    return words_of(24, 20)


@case("keras3conv/alignment/problems.py:unplaced#2", "plan.check()", then="k3c.transfer(module, model, plan.check())")
def a_vocabulary_that_is_filled_up_in_keras(_: Path) -> Scope:
    return words_of(20, 24)


@case("keras3conv/alignment/problems.py:unplaced", "plan.check()", then="k3c.transfer(module, model, plan.check())")
def a_table_that_keras_holds_twice(_: Path) -> Scope:
    class Table(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.position_embeddings = nn.Parameter(torch.randn(5, 8))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + self.position_embeddings

    class Twice(layers.Layer):
        def build(self, _: Any) -> None:
            self.table = self.add_weight(shape=(5, 8), name="position_embeddings")
            self.copy = self.add_weight(shape=(5, 8), name="interpolated_position_embeddings")

        def call(self, inputs: Any) -> Any:
            return inputs + self.table

    module, model = Table(), keras.Sequential([keras.Input((5, 8)), Twice(name="emb")])
    return NAMES | {
        "module": module,
        "model": model,
        "plan": replace(k3c.align(module, model, inputs=torch.randn(2, 5, 8))),
    }


class Mixing(nn.Module):
    """A layer that no rule knows."""

    def __init__(self, *shape: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(shape))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x @ self.weight.mT


class KerasMixing(layers.Layer):
    def __init__(self, *shape: int, **options: Any) -> None:
        super().__init__(**options)
        self.shape_of_weight = shape

    def build(self, _: Any) -> None:
        self.mixing = self.add_weight(shape=self.shape_of_weight, name="mixing")

    def call(self, inputs: Any) -> Any:
        return inputs @ self.mixing


def mixings(torch_shapes: list[tuple[int, ...]], keras_shapes: list[tuple[int, ...]]) -> Scope:
    module = nn.ModuleDict({f"t{place}": Mixing(*shape) for place, shape in enumerate(torch_shapes)})
    given = keras.Input((3,))
    found = [KerasMixing(*shape, name=f"k{place}")(given) for place, shape in enumerate(keras_shapes)]
    plan = k3c.align(module, keras.Model(given, found), probe=False)
    return NAMES | {"plan": replace(plan, pairs=())}


@case("keras3conv/alignment/by_hand.py:pair_by_hand", 'plan = plan.pair("t0", "k0")', then="plan.check()")
def two_classes_that_no_rule_pairs(_: Path) -> Scope:
    return mixings([(4, 3)], [(3, 4)])


@case(
    "keras3conv/alignment/by_hand.py:_pair_named_tensors",
    'plan = plan.pair("t0.weight", "k0/mixing")',
    then="plan.check()",
)
def a_tensor_with_its_axes_in_another_order(_: Path) -> Scope:
    return mixings([(4, 3)], [(3, 4)])


@case(
    "keras3conv/alignment/by_hand.py:_pair_named_tensors",
    'plan = plan.pair(["t0.weight", "t1.weight"], "k0/mixing")',
    then="plan.check()",
)
def two_tensors_that_are_one_on_the_other_side(_: Path) -> Scope:
    return mixings([(4, 3), (2, 3)], [(3, 6)])


@case(
    "keras3conv/alignment/by_hand.py:_pair_named_tensors",
    'plan = plan.pair("t0.weight", ["k0/mixing", "k1/mixing"])',
    then="plan.check()",
)
def one_tensor_that_is_two_on_the_other_side(_: Path) -> Scope:
    return mixings([(6, 3)], [(3, 4), (3, 2)])


@case(
    "keras3conv/alignment/adapted.py:adapted",
    "plan = k3c.align(module, model); k3c.transfer(module, model, plan)",
    then="plan.torch",
)
def a_quantized_target(_: Path) -> Scope:
    names = pair()
    names["model"].quantize("int8")
    return names | {"make_model": network}


class Wrapped(keras.Model):
    """A model without a configuration, because it gets a layer."""

    def __init__(self, inner: keras.Model) -> None:
        super().__init__()
        self.inner = inner

    def call(self, x: Any) -> Any:
        return self.inner(x)


@case(
    "keras3conv/frameworks/keras/quantized.py:Unquantized.of",
    "k3c.transfer(module, model, plan, cast=True)",
    then="k3c.transfer(module, model, k3c.align(module, model))",
)
def a_quantized_target_that_cannot_be_made_again(_: Path) -> Scope:
    names = pair()
    model = Wrapped(names["model"])
    model(np.zeros((1, 3), "float32"))
    model.quantize("int8")
    return names | {"model": model, "make_model": network, "plan": k3c.align(names["module"], model)}


@case("keras3conv/alignment/adapted.py:adapted", "plan = k3c.align(module, model); plan.check()", then="plan.torch")
def a_target_with_lora(_: Path) -> Scope:
    names = pair()
    names["model"].get_layer("a").enable_lora(2)
    return names | {"make_model": network}


class Adapted(nn.Module):
    """A Linear with an adapter beside it, with the names that peft gives them."""

    def __init__(self) -> None:
        super().__init__()
        self.base_layer = nn.Linear(3, 4)
        self.lora_A = nn.ModuleDict({"default": nn.Linear(3, 2, bias=False)})
        self.lora_B = nn.ModuleDict({"default": nn.Linear(2, 4, bias=False)})

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        made: torch.Tensor = self.base_layer(x) + self.lora_B["default"](self.lora_A["default"](x))
        return made


class OfPeft(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = Adapted()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        made: torch.Tensor = self.a(x)
        return made

    def merge_and_unload(self) -> nn.Module:
        merged, plain = nn.Sequential(), nn.Linear(3, 4)
        merged.add_module("a", plain)
        up: Any = self.a.lora_B["default"]
        down: Any = self.a.lora_A["default"]
        with torch.no_grad():
            plain.weight.copy_(self.a.base_layer.weight + up.weight @ down.weight)
            plain.bias.copy_(self.a.base_layer.bias)
        return merged


@case(
    "keras3conv/alignment/adapted.py:merged_first",
    "plan = k3c.align(module, model, inputs=inputs); plan.check()",
    then="k3c.transfer(module, model, k3c.align(module, model, inputs=inputs))",
)
def an_adapter_that_is_not_merged(_: Path) -> Scope:
    model = keras.Sequential([keras.Input((3,)), layers.Dense(4, name="a")])
    return NAMES | {"module": OfPeft(), "model": model, "inputs": torch.randn(2, 3)}


@case(
    "keras3conv/alignment/made_for.py:made_for_others",
    "k3c.transfer(torch, keras, plan)",
    then="k3c.transfer(torch, keras, plan)",
)
def a_plan_for_other_models(_: Path) -> Scope:
    plan = k3c.align(Net(), network(), probe=False)
    return NAMES | {"torch": Net("c"), "keras": network(), "plan": plan}


@case("keras3conv/alignment/staging.py:Staging._fitted", "k3c.transfer(source, target, plan)")
def values_that_the_target_cannot_hold(_: Path) -> Scope:
    module, model = Net().double(), network()
    return NAMES | {"source": module, "target": model, "plan": k3c.align(module, model, probe=False)}


@case("keras3conv/alignment/staging.py:Staging._unequal", "k3c.transfer(source, target, plan)",
      then="k3c.transfer(source, target, k3c.align(target, source, inputs=inputs))")  # fmt: skip
def two_values_for_one_tied_weight(_: Path) -> Scope:
    module, model = Tied(), untied()
    plan = k3c.align(module, model, inputs=words())
    return NAMES | {"source": model, "target": module, "plan": plan, "inputs": words()}


@case("keras3conv/planner/ordered/lists.py:_unequal_lengths", "k3c.align_ordered(module, model)")
def two_lists_of_different_lengths(_: Path) -> Scope:
    return NAMES | {"module": nn.Sequential(Net(), nn.Linear(2, 2)), "model": network()}


@case("keras3conv/planner/ordered/lists.py:ordered", "k3c.align_ordered(module, model)")
def two_lists_that_do_not_fit(_: Path) -> Scope:
    return NAMES | {"module": Net(), "model": network(units=5)}


@case("keras3conv/workflows/transfer.py:_shared", 'k3c.transfer(source, target, plan, memory="share")')
def shared_memory_with_a_file(folder: Path) -> Scope:
    names = pair()
    torch.save(names["module"].state_dict(), folder / "net.pt")
    return names | {"source": folder / "net.pt"}


@case(
    "keras3conv/workflows/transfer.py:_shared#2",
    'k3c.transfer(source, target, plan, memory="share", out=path)',
)
def shared_memory_with_files_to_write(folder: Path) -> Scope:
    return pair() | {"path": folder / "net.keras"}


@case(
    "keras3conv/frameworks/keras/adapter.py:KerasModel.torch_tensors",
    'k3c.transfer(source, target, plan, memory="share")',
)
def shared_memory_on_another_backend(_: Path) -> Scope:
    from keras3conv.frameworks.keras import adapter

    patch = pytest.MonkeyPatch()
    patch.setenv("KERAS_BACKEND", "jax")
    patch.setattr(adapter, "backend", lambda: os.environ["KERAS_BACKEND"])
    return pair() | {"undo": patch.undo}


@case("keras3conv/workflows/file_tensors.py:_require_none", "k3c.transfer(source, path, plan)")
def a_file_for_a_computed_weight(folder: Path) -> Scope:
    module, model = Net(), network()
    torch.nn.utils.parametrizations.weight_norm(module.get_submodule("a"))
    plan = k3c.align(module, model, probe=False)
    return NAMES | {"source": model, "target_model": module, "plan": plan, "path": folder / "net.safetensors"}


@case("keras3conv/workflows/file_tensors.py:_require_none", "k3c.transfer(source, path, plan)")
def a_new_file_without_a_value_for_an_ignored_tensor(folder: Path) -> Scope:
    module, model = Net(), network()
    plan = k3c.align(module, model, probe=False).unpair("a").ignore("a.weight", "new").ignore("a.bias", "new")
    plan = plan.ignore("a/kernel", "new").ignore("a/bias", "new")
    return NAMES | {"source": model, "target_model": module, "plan": plan, "path": folder / "net.safetensors"}
