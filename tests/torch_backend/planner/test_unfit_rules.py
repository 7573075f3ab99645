"""A rule of the user that fits no two layers changes no plan, and the plan names the mistake in it."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import pytest
import torch
from torch import nn

import keras3conv as k3c
from keras3conv.errors import AlignmentError
from keras3conv.transforms import Axes, Chain, Concat, Each, Transform
from tests.support.registered import keep_rules


class Mixer(nn.Module):
    """A gated layer: two Linear inside, and a factor of its own."""

    def __init__(self, width: int, units: int) -> None:
        super().__init__()
        self.units = units
        self.value, self.gate = nn.Linear(width, units), nn.Linear(width, units)
        self.temp = nn.Parameter(torch.tensor([1.3]))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        value: torch.Tensor = self.value(x)
        return value * torch.sigmoid(self.gate(x) * self.temp)


@keras.saving.register_keras_serializable(package="unfit_rules")
class KerasMixer(keras.layers.Layer):
    """The same layer, with both kernels in one."""

    def __init__(self, units: int, **arguments: object) -> None:
        super().__init__(**arguments)
        self.units = units

    def build(self, shape: tuple[int, ...]) -> None:
        self.kernel = self.add_weight(name="kernel", shape=(shape[-1], 2 * self.units))
        self.bias = self.add_weight(name="bias", shape=(2 * self.units,))
        self.temp = self.add_weight(name="temp", shape=(1,))

    def call(self, x: Any) -> Any:
        value, gate = keras.ops.split(keras.ops.matmul(x, self.kernel) + self.bias, 2, axis=-1)
        return value * keras.ops.sigmoid(gate * self.temp)

    def get_config(self) -> dict[str, object]:
        return {**super().get_config(), "units": self.units}


TORCH, KERAS = f"{__name__}.Mixer", f"{__name__}.KerasMixer"


@pytest.fixture(autouse=True)
def _rules() -> Iterator[None]:
    undo = keep_rules()
    yield
    undo()


def register(
    temp: str = "temp",
    kernel: str = "kernel",
    more: int = 0,
    transform: Transform | None = None,
    with_bias: bool = True,
) -> None:
    """Register the rule of the two layers, with a possible mistake.

    Args:
        temp: The name of the torch parameter `temp`.
        kernel: The name of the Keras variable `kernel`.
        more: A number by which the size of the second part of the kernel is wrong.
        transform: The transform of the factor.
        with_bias: Whether the rule names the biases.
    """

    def weights(config: Any) -> tuple[k3c.WeightMapping, ...]:
        units = config["units"]
        joined = Chain(Each(Axes("o i -> i o")), Concat(axis=1, sizes=(units, units + more)))
        bias = Concat(axis=0, sizes=(units, units))
        return (
            k3c.WeightMapping(torch=("value.weight", "gate.weight"), keras=(kernel,), transform=joined),
            *[k3c.WeightMapping(torch=("value.bias", "gate.bias"), keras=("bias",), transform=bias)][: int(with_bias)],
            k3c.WeightMapping(torch=(temp,), keras=("temp",), transform=transform or Axes("n -> n")),
        )

    k3c.register(
        k3c.Rule(
            torch=TORCH,
            keras=KERAS,
            fields={"units": "units"},
            weights=weights,
            to_keras=lambda config: (k3c.LayerSpec(kind=KERAS, config={"units": config["units"]}),),
            to_torch=lambda specs: (
                k3c.LayerSpec(
                    kind=TORCH, config={"width": specs[0].shapes["kernel"][0], "units": specs[0].config["units"]}
                ),
            ),
            examples=(k3c.Example(config={"width": 4, "units": 5}, inputs=((3, 4),)),),
        )
    )


def module(last: int = 3) -> nn.Module:
    torch.manual_seed(8)
    layers = nn.Linear(7, 8), Mixer(8, 8), nn.LayerNorm(8), Mixer(8, 8), nn.Linear(8, last)
    return nn.Sequential(*layers).eval()


def model(units: int = 8) -> keras.Model:
    return keras.Sequential(
        [
            keras.Input((7,)),
            keras.layers.Dense(8, name="first"),
            KerasMixer(8, name="m1"),
            keras.layers.LayerNormalization(epsilon=1e-5, name="norm"),
            KerasMixer(units, name="m2"),
            keras.layers.Dense(3, name="last"),
        ]
    )


MISTAKES = pytest.mark.parametrize(
    ("mistake", "fact"),
    [
        ({"temp": "temperature"}, "torch 1 has no temperature, and the rule does not name temp of torch 1"),
        ({"kernel": "kernels"}, "Keras m1 has no kernels, and the rule does not name kernel of Keras m1"),
        ({"more": 1}, r"their sizes along axis 1 must be \(8, 9\)"),
        ({"transform": Axes("n -> n 1")}, r"temp \(1,\) becomes \(1, 1\) by .*, but temp has shape \(1,\)"),
        ({"with_bias": False}, "does not name value.bias, gate.bias of torch 1, and .* name bias of Keras m1"),
    ],
)


@MISTAKES
def test_two_live_models_are_paired_as_without_the_rule(mistake: dict[str, Any], fact: str) -> None:
    bare = k3c.align(module(), model())
    register(**mistake)
    plan = k3c.align(module(), model())
    assert (plan.pairs, plan.problems()) == (bare.pairs, ())
    assert not any(pair.unconfirmed for pair in plan.pairs)
    note, *rest = plan.notes
    assert tuple(rest) == bare.notes
    assert note.startswith(f"your rule {TORCH} <-> {KERAS} was not used: it maps value.weight, gate.weight, ")
    assert "in torch 1 has temp (1,), value.weight (8, 8), value.bias (8,), gate.weight (8, 8), gate.bias (8,)" in note
    assert "in Keras m1 has kernel (8, 16), bias (16,), temp (1,)" in note
    assert re.search(fact, note)
    assert f"correct the rule ({__file__}:" in note


def test_the_mistake_of_the_rule_comes_before_the_tensors_without_a_pair() -> None:
    register(temp="temperature")
    plan = k3c.align(module(), model(units=6), probe=False)
    first, *others = plan.problems()
    assert (first.torch, first.keras) == ("1", "")
    assert first.fact.endswith("was not used: torch 1 has no temperature, and the rule does not name temp of torch 1")
    (fix,) = first.fixes
    assert fix.startswith(f"plan = k3c.align(torch, keras)  # first correct the rule in {__file__}:")
    assert others
    inside = [one for one in others if one.torch.startswith(("1", "3")) or one.keras.startswith("m")]
    assert inside
    assert not any(one.fixes for one in inside)


def test_layers_of_another_size_are_no_mistake_of_the_rule() -> None:
    register()
    torch_module = nn.Sequential(Mixer(4, 6))
    keras_model = keras.Sequential([keras.Input((4,)), KerasMixer(5, name="mixer")])
    plan = k3c.align(torch_module, keras_model, probe=False)
    assert plan.problems()
    assert not any("your rule" in text for text in (*plan.notes, *(one.fact for one in plan.problems())))


def files(folder: Path) -> tuple[Path, Path]:
    """Two files of the same models, the Keras file with initial weights."""
    torch.save(module().state_dict(), folder / "net.pt")
    model().save(folder / "net.keras")
    return folder / "net.pt", folder / "net.keras"


def test_a_rule_for_a_layer_with_layers_inside_is_used_between_two_files(tmp_path: Path) -> None:
    register()
    source, target = files(tmp_path)
    plan = k3c.align(source, target)
    assert not plan.problems()
    rule = f"{TORCH} <-> {KERAS}"
    assert [(one.torch, one.keras) for one in plan.pairs if one.rule == rule] == [("1", "m1"), ("3", "m2")]
    k3c.transfer(source, target, plan, out=tmp_path / "new.keras", accept_unconfirmed=True)
    made = keras.saving.load_model(tmp_path / "new.keras")
    k3c.validate(module(), made).raise_if_failed()


def test_a_layer_with_layers_inside_is_found_in_a_file_of_itself(tmp_path: Path) -> None:
    register()
    torch.save(Mixer(4, 6).state_dict(), tmp_path / "mixer.pt")
    keras_model = keras.Sequential([keras.Input((4,)), KerasMixer(6, name="mixer")])
    (pair,) = k3c.align(tmp_path / "mixer.pt", keras_model).check().pairs
    assert (pair.torch, pair.keras, len(pair.weights)) == ("", "mixer", 3)


def test_a_layer_without_tensors_of_its_own_is_found_in_a_file(tmp_path: Path) -> None:
    class Outer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.block = nn.ModuleDict({"value": nn.Linear(4, 6), "gate": nn.Linear(4, 6), "scale": Scale()})

    class Scale(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.temp = nn.Parameter(torch.ones(1))

    register(temp="scale.temp")
    torch.save(Outer().state_dict(), tmp_path / "net.pt")
    keras_model = keras.Sequential([keras.Input((4,)), KerasMixer(6, name="mixer")])
    (pair,) = k3c.align(tmp_path / "net.pt", keras_model).check().pairs
    assert (pair.torch, pair.keras) == ("block", "mixer")


def test_a_misspelled_rule_is_the_first_problem_between_two_files(tmp_path: Path) -> None:
    register(temp="temperature")
    plan = k3c.align(*files(tmp_path))
    fact = "torch 1 has no temperature, and the rule does not name temp of torch 1"
    assert plan.problems()[0].fact == f"your rule {TORCH} <-> {KERAS} was not used: {fact}"
    assert fact in plan.notes[0]
    with pytest.raises(AlignmentError, match=r"Fix:  plan = k3c\.align.*first correct the rule in") as caught:
        plan.check()
    assert "ignore" not in str(caught.value)


def test_a_rule_that_reads_settings_asks_for_a_file_that_has_them(tmp_path: Path) -> None:
    register()
    source, _ = files(tmp_path)
    model().save_weights(tmp_path / "net.weights.h5")
    plan = k3c.align(source, tmp_path / "net.weights.h5")
    assert plan.notes[0].endswith("was not used: it reads settings of the layer, which a file of weights does not have")
    with pytest.raises(
        AlignmentError, match=r"# with the Keras model or its \.keras file, not its file of w"
    ) as caught:
        plan.check()
    assert "ignore" not in str(caught.value)


def test_a_hint_for_the_layers_says_why_the_rule_does_not_fit() -> None:
    register(temp="temperature")
    with pytest.raises(AlignmentError, match="temperature, which the layer does not have"):
        k3c.align(module(), model(), hints={"1": "m1"})
