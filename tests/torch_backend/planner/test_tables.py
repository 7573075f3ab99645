"""Position tables of different sizes and quantized or LoRA models are reported with a fix."""

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import torch
from torch import nn

import keras3conv as k3c
from keras3conv.errors import AlignmentError
from keras3conv.transforms import ResizeGrid, from_json
from tests.support.models import randomize


@pytest.mark.parametrize(("given", "wanted"), [((4, 4), (6, 6)), ((3, 5), (7, 2)), ((6, 6), (4, 4))])
def test_a_grid_is_resized_as_by_torch(given: tuple[int, int], wanted: tuple[int, int]) -> None:
    table = torch.randn(1, 1 + given[0] * given[1], 3, dtype=torch.float64)
    grid = table[:, 1:].reshape(1, *given, 3).permute(0, 3, 1, 2)
    resized = nn.functional.interpolate(grid, wanted, mode="bicubic").permute(0, 2, 3, 1).reshape(1, -1, 3)
    transform = ResizeGrid(axis=1, first=1, given=given, wanted=wanted)
    (found,) = transform((table.numpy(),))
    np.testing.assert_allclose(found, torch.cat([table[:, :1], resized], 1).numpy(), atol=1e-12)
    assert from_json(transform.to_json()) == transform
    assert transform.shapes((tuple(table.shape),)) == (found.shape,)
    assert not transform.lossless


class Places(keras.layers.Layer):
    def __init__(self, rows: int) -> None:
        super().__init__(name="places")
        self.pos_embed = self.add_weight(shape=(1, rows, 4), name="pos_embed")

    def call(self, x: object) -> object:
        return x + self.pos_embed


class Embedded(nn.Module):
    def __init__(self, rows: int) -> None:
        super().__init__()
        self.pos_embed = nn.Parameter(torch.randn(1, rows, 4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.pos_embed[:, : x.shape[1]]


@pytest.mark.parametrize(
    ("torch_rows", "keras_rows", "message", "transform"),
    [
        (10, 17, "a grid of 1 token and 3 x 3 positions", ResizeGrid(1, 1, (3, 3), (4, 4))),
        (14, 12, "2 rows more", k3c.transforms.Skip(1, 2)),
    ],
)
def test_a_position_table_of_another_size_is_reported_with_the_transform_to_use(
    torch_rows: int, keras_rows: int, message: str, transform: k3c.transforms.Transform
) -> None:
    given = keras.Input((keras_rows, 4))
    model = keras.Model(given, Places(keras_rows)(given))
    module = Embedded(torch_rows)
    plan = k3c.align(module, model, probe=False)
    with pytest.raises(AlignmentError, match=message) as error:
        plan.check()
    assert f"k3c.transforms.{type(transform).__name__}" in str(error.value)
    paired = plan.pair("pos_embed", "places/pos_embed", transform=transform).check()
    k3c.transfer(module, model, k3c.Alignment.from_json(paired.to_json()))
    (wanted,) = transform((module.pos_embed.detach().numpy(),))
    assert np.array_equal(keras.ops.convert_to_numpy(model.get_layer("places").pos_embed), wanted)


class Flat(keras.layers.Layer):
    """A table without the axis of the batch, whose name says nothing."""

    def __init__(self, rows: int) -> None:
        super().__init__(name="places")
        self.table = self.add_weight(shape=(rows, 4), name="table")

    def call(self, x: Any) -> Any:
        return x + self.table


@pytest.mark.parametrize("rows", [(10, 17), (14, 12), (12, 14)])
def test_the_line_for_a_table_of_another_size_has_the_axes_of_both_tables(rows: tuple[int, int]) -> None:
    given = keras.Input((rows[1], 4))
    plan = k3c.align(Embedded(rows[0]), keras.Model(given, Flat(rows[1])(given)), probe=False)
    names: dict[str, Any] = {"plan": plan, "k3c": k3c}
    exec(plan.problems()[0].fixes[0], names)  # noqa: S102 - our own message
    names["plan"].check()


class Text(nn.Module):
    """Counts its positions from `first` on, as RoBERTa from 2 on."""

    def __init__(self, words: int, positions: int, first: int) -> None:
        super().__init__()
        self.first = first
        self.word, self.position = nn.Embedding(words, 6), nn.Embedding(positions, 6)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        made: torch.Tensor = self.word(x) + self.position(torch.arange(x.shape[1]) + self.first)
        return made


class Positions(keras.layers.Layer):
    def __init__(self, rows: int) -> None:
        super().__init__()
        self.table = keras.layers.Embedding(rows, 6, name="position")

    def call(self, x: Any) -> Any:
        return x + self.table(keras.ops.arange(5))


@pytest.mark.parametrize("by_file", [False, True])
@pytest.mark.parametrize(
    ("words", "keras_words", "positions", "keras_positions", "first"),
    [(20, 24, 14, 12, 2), (24, 20, 14, 12, 2), (20, 20, 60, 15, 0), (20, 24, 12, 12, 0)],
)
def test_words_and_positions_with_other_numbers_of_rows_are_paired_by_the_printed_lines(
    words: int, keras_words: int, positions: int, keras_positions: int, first: int, by_file: bool, tmp_path: Path
) -> None:
    """A table of words is never proposed for one of positions, whatever their numbers of rows."""
    net = randomize(Text(words, positions, first))
    given = keras.Input((5,), dtype="int32")
    model = keras.Model(given, Positions(keras_positions)(keras.layers.Embedding(keras_words, 6, name="word")(given)))
    torch.save(net.state_dict(), tmp_path / "net.pt")
    model.save_weights(tmp_path / "made.weights.h5")
    sides = (tmp_path / "net.pt", tmp_path / "made.weights.h5") if by_file else (net, model)
    names: dict[str, Any] = {"plan": k3c.align(*sides), "k3c": k3c}
    lines = [problem.fixes[0] for problem in names["plan"].problems() if problem.torch]
    assert lines
    for line in lines:
        exec(line, names)  # noqa: S102 - our own message
    k3c.transfer(sides[0], sides[1], names["plan"].check(), out=tmp_path / "filled.weights.h5")
    if by_file:
        model.load_weights(tmp_path / "filled.weights.h5")
    ids = np.arange(10).reshape(2, 5)
    made = keras.ops.convert_to_numpy(model(ids))
    assert np.abs(made - net(torch.tensor(ids)).detach().numpy()).max() < 1e-6


def test_a_layer_that_never_ran_is_said_to_be_one() -> None:
    class Unused(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.extra = nn.Linear(6, 3), nn.Linear(6, 9)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            made: torch.Tensor = self.a(x)
            return made

    model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(3)])
    (problem,) = k3c.align(Unused(), model).problems()
    assert problem.fact.endswith(
        "matched nothing; the layer was never called when the model ran; Keras has no variable of these sizes left"
    )
    (problem,) = k3c.align(Unused(), model, probe=False).problems()
    assert problem.torch == "extra"


@pytest.mark.filterwarnings("ignore:Layer InputLayer")
@pytest.mark.parametrize("mode", ["int8", "int4", "float8", "lora"])
def test_a_quantized_or_lora_model_is_refused_with_a_fix(mode: str) -> None:
    given = keras.Input((16,))
    model = keras.Model(given, keras.layers.Dense(8, name="fc")(given))
    if mode == "lora":
        model.get_layer("fc").enable_lora(2)
    else:
        model.quantize(mode)
    plan = k3c.align(nn.Sequential(nn.Linear(16, 8)), model, inputs=np.ones((2, 16), np.float32))
    with pytest.raises(AlignmentError, match=r"fc is (quantized|adapted with LoRA)(.|\n)*model = make_model\(\)"):
        k3c.transfer(nn.Sequential(nn.Linear(16, 8)), model, plan.ignore("fc", "why", side="keras"))


def quantizable() -> keras.Model:
    given = keras.Input((16,))
    hidden = keras.layers.Dense(32, activation="relu", name="a")(given)
    return keras.Model(given, keras.layers.Dense(8, name="b")(hidden))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Layer InputLayer")
@pytest.mark.parametrize("mode", ["int8", "float8"])
def test_a_cast_into_a_quantized_model_gives_what_keras_quantizes(mode: str) -> None:
    module = randomize(nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 8)))
    model, wanted = quantizable(), quantizable()
    k3c.transfer(module, wanted, k3c.align(module, wanted))
    wanted.quantize(mode)
    model.quantize(mode)
    plan = k3c.align(module, model)
    for tensor in plan.keras.tensors():
        if tensor.path.rpartition("/")[2] not in ("kernel", "bias"):
            plan = plan.ignore(tensor.path, "Keras computes it")
    with pytest.raises(AlignmentError, match="quantized"):
        k3c.transfer(module, model, plan)
    before = [np.array(value) for value in model.get_weights()]
    k3c.transfer(module, model, plan, cast=True)
    made = model.get_weights()
    assert not all(np.array_equal(first, second) for first, second in zip(before, made, strict=True))
    for first, second in zip(made, wanted.get_weights(), strict=True):
        assert np.array_equal(np.asarray(first, np.float32), np.asarray(second, np.float32))
