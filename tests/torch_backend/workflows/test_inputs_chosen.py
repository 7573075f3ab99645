"""Generated inputs and positional inputs reach the arguments with matching names and layouts."""

from typing import Any

import keras
import numpy as np
import pytest
import torch
from keras import layers, ops
from torch import nn

import keras3conv as k3c
from keras3conv.errors import InputError, ModelError
from keras3conv.frameworks.torch.view import view
from tests.support.models import randomize


class Profile(nn.Module):
    """A module whose two inputs are not in alphabetical order."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.head = nn.Embedding(9, 4), nn.Linear(5, 3)

    def forward(self, user_id: torch.Tensor, age: torch.Tensor) -> torch.Tensor:
        made: torch.Tensor = self.head(torch.cat([self.table(user_id.long()[:, 0]), age], -1))
        return made


class Both(nn.Module):
    """A module with two inputs of the same shape, which only their names distinguish."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(3, 3)

    def forward(self, user_id: torch.Tensor, age: torch.Tensor) -> torch.Tensor:
        made: torch.Tensor = self.head(user_id) - 2 * age
        return made


def profile() -> keras.Model:
    given = {"age": keras.Input((1,), name="age"), "user_id": keras.Input((1,), name="user_id")}
    row = layers.Embedding(9, 4)(ops.cast(given["user_id"], "int32")[:, 0])
    return keras.Model(given, layers.Dense(3)(ops.concatenate([row, given["age"]], -1)))


def both() -> keras.Model:
    given = {"age": keras.Input((3,), name="age"), "user_id": keras.Input((3,), name="user_id")}
    return keras.Model(given, layers.Dense(3)(given["user_id"]) - 2 * given["age"])


def proven(module: nn.Module, model: keras.Model, inputs: Any = None) -> k3c.Report:
    plan = k3c.align(randomize(module), model, inputs=inputs).check()
    k3c.transfer(module, model, plan)
    report = k3c.validate(module, model, inputs=inputs, alignment=plan, proofs=("float64", "outputs"))
    report.raise_if_failed()
    return report


def test_positional_inputs_are_matched_by_argument_names() -> None:
    ids = np.array([[1.0], [8.0], [3.0]], np.float32)
    ages = np.random.default_rng(0).standard_normal((3, 1)).astype(np.float32)
    proven(Profile(), profile(), (torch.tensor(ids), torch.tensor(ages)))
    random = np.random.default_rng(1)
    first, second = (torch.tensor(random.standard_normal((4, 3)), dtype=torch.float32) for _ in range(2))
    proven(Both(), both(), (first, second))


def test_generated_inputs_are_matched_by_argument_names() -> None:
    proven(Both(), both())


class AnyNames(Both):
    """A module that takes more than it uses."""

    def forward(self, user_id: torch.Tensor, age: torch.Tensor, **others: torch.Tensor) -> torch.Tensor:
        return super().forward(user_id, age)


class Decorated(Both):
    """A module whose arguments a decorator could rename."""

    @torch.no_grad()
    def forward(self, user_id: torch.Tensor, age: torch.Tensor) -> torch.Tensor:
        return super().forward(user_id, age)


def test_a_module_that_takes_any_name_is_called_with_all_of_them() -> None:
    first, second = (torch.randn(4, 3) for _ in range(2))
    given = {"user_id": first, "age": second}
    model = both()
    with pytest.raises(InputError, match="inputs has more: the arguments of Both"):
        k3c.align(Both(), model, inputs=given | {"more": first})

    def renamed(_: nn.Module, args: tuple[Any, ...], given: dict[str, Any]) -> tuple[Any, Any]:
        return args, {"user_id": given["x"], "age": given["age"]}

    hooked = Both()
    hooked.register_forward_pre_hook(renamed, with_kwargs=True)
    assert view(hooked).keywords == view(AnyNames()).keywords == view(Decorated()).keywords == ()
    proven(hooked, model, {"age": second, "x": first})  # Keras takes them in this order


class StepsFirst(nn.Module):
    """A module with a convolution that takes sequences with channels last, as Keras does."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(4, 6, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        made: torch.Tensor = self.conv(x.mT).mT
        return made


class ChannelsFirst(nn.Module):
    """A module that takes sequences with channels first, without a layer that shows this."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(4, 6)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        made: torch.Tensor = self.head(x.mT)
        return made


def test_the_layout_of_a_sequence_is_the_one_that_both_models_accept() -> None:
    proven(StepsFirst(), keras.Sequential([keras.Input((7, 4)), layers.Conv1D(6, 3)]))
    proven(ChannelsFirst(), keras.Sequential([keras.Input((7, 4)), layers.Dense(6)]))
    report = proven(StepsFirst(), keras.Sequential([keras.Input((None, 4)), layers.Conv1D(6, 3)]))
    assert any("the dynamic sizes are 32" in note for note in report.notes)


class Positions(nn.Module):
    """A module with a position table, which refuses long inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.head = nn.Embedding(10, 4), nn.Linear(4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        made: torch.Tensor = self.head(x + self.table(torch.arange(x.shape[1])))
        return made


class Table(layers.Layer):
    def __init__(self) -> None:
        super().__init__()
        self.table = layers.Embedding(10, 4)

    def call(self, x: Any) -> Any:
        return x + self.table(ops.arange(ops.shape(x)[1]))


def test_the_report_names_the_sizes_that_the_models_refused() -> None:
    given = keras.Input((None, 4))
    report = proven(Positions(), keras.Model(given, layers.Dense(3)(Table()(given))))
    assert any("the dynamic sizes are 8, as the models refuse 32, 64, 128, 224, 16" in note for note in report.notes)


def test_torch_inputs_in_the_layout_of_keras_are_told_the_other_argument() -> None:
    module = nn.Sequential(nn.Conv1d(3, 4, 3)).eval()
    model = keras.Sequential([keras.Input((12, 3), name="x"), layers.Conv1D(4, 3)])
    given = np.random.default_rng(0).random((10, 12, 3), dtype=np.float32)
    k3c.transfer(module, model, k3c.align(module, model))
    with pytest.raises(ModelError, match=r"called with \(10, 12, 3\)") as caught:
        k3c.validate(module, model, inputs=given)
    message = str(caught.value)
    assert "as torch modules of images and sequences take them, it is (10, 3, 12)" in message
    assert "keras_inputs=..." in message
    k3c.validate(module, model, keras_inputs=given).raise_if_failed()


def test_the_probe_finds_out_which_inputs_are_accepted_without_other_runs() -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64, 5))
    calls: list[torch.dtype] = []
    module[0].register_forward_pre_hook(lambda _, args: calls.append(args[0].dtype))
    inputs = keras.Input((6, 6, 3))
    model = keras.Model(inputs, layers.Dense(5)(layers.Flatten()(layers.Conv2D(4, 3, activation="relu")(inputs))))
    assert not k3c.align(module, model).check().difference
    assert calls == [torch.float64]


class Undefined(nn.Module):
    """A module that accepts every input and returns NaN."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(4, 3)
        self.runs = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.runs += 1
        made: torch.Tensor = self.head(torch.log(-x.abs() - 1))
        return made


def test_no_other_inputs_are_tried_if_the_models_accept_them_and_the_probe_fails() -> None:
    module = Undefined()
    given = keras.Input((None, 4))
    plan = k3c.align(module, keras.Model(given, layers.Dense(3)(given)))
    assert "the dynamic sizes are 32" in plan.notes[0]
    assert "has NaN" in plan.notes[0]
    assert len(plan.pairs) == 1
    assert module.runs <= 4  # two probes (one sample, all samples), one test of the inputs, one run for the call order


class OneDict(nn.Module):
    """A module whose only argument is a dict of tensors."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(4, 3), nn.Linear(5, 3)

    def forward(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        made: torch.Tensor = self.first(batch["x"]) - self.second(batch["y"])
        return made


def test_a_dict_without_names_that_forward_takes_is_its_only_argument() -> None:
    given = {"x": torch.randn(2, 4), "y": torch.randn(2, 5)}
    named = {name: keras.Input(array.shape[1:], name=name) for name, array in given.items()}
    model = keras.Model(named, layers.Dense(3)(named["x"]) - layers.Dense(3)(named["y"]))
    report = proven(OneDict(), model, given)
    assert any("was given as the only argument that forward needs" in note for note in report.notes)
    proven(OneDict(), model)  # with random inputs
    converted = k3c.convert(randomize(OneDict()), inputs=given).report
    assert converted is not None
    assert converted.ok, converted
