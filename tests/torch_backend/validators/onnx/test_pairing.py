"""The inputs of exported ONNX files are matched by name, and their outputs by order."""

from pathlib import Path
from typing import Any

import keras
import numpy as np
import onnx
import pytest
import torch
from torch import nn

import keras3conv as k3c
from keras3conv.validators.onnx import export as onnx_export
from tests.support.models import randomize
from tests.torch_backend.validators.onnx.test_crosscheck import checked, refusing

pytestmark = pytest.mark.slow


def test_several_named_outputs_and_keyword_inputs_are_matched() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Linear(6, 4), nn.Linear(5, 4)

        def forward(self, left: torch.Tensor, right: torch.Tensor) -> dict[str, torch.Tensor]:
            return {"z": self.first(left), "a": self.second(right)}

    left, right = keras.Input((6,), name="left"), keras.Input((5,), name="right")
    outputs = {"z": keras.layers.Dense(4)(left), "a": keras.layers.Dense(4)(right)}
    random = np.random.default_rng(0)
    inputs = {name: random.standard_normal((2, size)).astype("float32") for name, size in (("left", 6), ("right", 5))}
    section = checked(randomize(Two()), keras.Model([left, right], outputs), inputs)
    assert section.status == "passed", section
    worst, every = section.tables
    assert (worst.title, len(worst.rows), every.title, len(every.rows)) == ("each pair", 6, "pairwise comparison", 12)
    column = worst.columns.index("ratio")
    for row in worst.rows:
        both = [float(str(other[column])) for other in every.rows if other[1:3] == row[1:3]]
        assert row[column] == max(both), "the worse of the two outputs"


def dense_model(width: int, **named: str) -> keras.Model:
    """A model with a dict of outputs; `named` maps output keys to the names of the Dense layers."""
    given = keras.Input((width,))
    return keras.Model(given, {key: keras.layers.Dense(4, name=name)(given) for key, name in named.items()})


def test_outputs_are_matched_by_order_and_not_by_the_names_of_the_exporter() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Linear(6, 4), nn.Linear(6, 4)

        def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
            return {"linear_1": self.first(x), "linear": self.second(x)}

    section = checked(randomize(Two()), dense_model(6, linear_1="first", linear="second"))
    assert section.status == "passed", section


def test_outputs_in_nested_dicts_and_lists_are_matched_with_both_torch_exporters(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Nested(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.parts = nn.ModuleList([nn.Linear(6, 4) for _ in range(12)])

        def forward(self, x: torch.Tensor) -> dict[str, Any]:
            made = [part(x) for part in self.parts]
            return {"z": made[:11], "a": {"y": made[11]}}

    given = keras.Input((6,))
    made = [keras.layers.Dense(4, name=f"part_{place}")(given) for place in range(12)]
    model = keras.Model(given, {"z": made[:11], "a": {"y": made[11]}})
    module = randomize(Nested())
    hints = {f"parts.{place}": f"part_{place}" for place in range(12)}
    assert checked(module, model, hints=hints).status == "passed"
    monkeypatch.setattr(torch.onnx, "export", refusing(False))
    assert checked(module, model, hints=hints).status == "passed"


class Weighted(nn.Module):
    """Two inputs of equal shape and dtype with different meanings."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.dense = nn.Embedding(9, 6), nn.Linear(6, 4)

    def forward(self, tokens: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        made: torch.Tensor = self.dense(self.table(tokens)) * weights[..., None]
        return made


@pytest.mark.parametrize("as_dict", [False, True])
def test_inputs_of_equal_shape_in_another_order_are_matched_by_name(as_dict: bool) -> None:
    tokens, weights = keras.Input((3,), dtype="int32", name="tokens"), keras.Input((3,), dtype="int32", name="a_weight")
    x = keras.layers.Dense(4)(keras.layers.Embedding(9, 6)(tokens))
    x = x * keras.ops.cast(keras.ops.expand_dims(weights, -1), "float32")
    model = keras.Model({"tokens": tokens, "a_weight": weights} if as_dict else [tokens, weights], x)
    random = np.random.default_rng(1)
    given = {name: random.integers(0, 9, (2, 3)) for name in ("weights", "tokens")}
    names = {"a_weight": given["weights"].astype("int32"), "tokens": given["tokens"].astype("int32")}
    module = randomize(Weighted())
    plan = k3c.align(module, model, inputs=given, keras_inputs=names).check()
    k3c.transfer(module, model, plan)
    asked = {"inputs": given, "keras_inputs": names, "alignment": plan, "onnx": True, "proofs": ["onnx"]}
    section = k3c.validate(module, model, **asked).section("onnx")  # type: ignore[arg-type]
    assert section.status == "passed", section


def test_a_file_with_fewer_outputs_than_its_model_disagrees_with_all_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Linear(6, 4), nn.Linear(6, 4)

        def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
            return {"a": self.first(x), "b": self.second(x)}

    export = onnx_export.export_keras

    def cut(model: Any, inputs: Any, path: Path) -> onnx_export.Exported:
        exported = export(model, inputs, path)
        proto = onnx.load_model(path)
        del proto.graph.output[1:]
        onnx.save_model(proto, path)
        return exported

    monkeypatch.setattr(onnx_export, "export_keras", cut)
    section = checked(randomize(Two()), dense_model(6, a="first", b="second"))
    assert section.status == "failed"
    assert section.summary == "ONNX of Keras disagrees with torch, Keras and ONNX of torch"
    assert "the file returns 1 array (" in section.problems[0].fact


def test_an_input_that_is_broadcast_over_the_batch_is_exported() -> None:
    class Shifted(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.dense = nn.Linear(6, 4)

        def forward(self, x: torch.Tensor, shift: torch.Tensor) -> torch.Tensor:
            made: torch.Tensor = self.dense(x + shift)
            return made

    x, shift = keras.Input((6,)), keras.Input(batch_shape=(1, 6))
    model = keras.Model([x, shift], keras.layers.Dense(4)(x + shift))
    random = np.random.default_rng(0)
    given = tuple(random.standard_normal((size, 6)).astype("float32") for size in (3, 1))
    section = checked(randomize(Shifted()), model, given)
    assert "opset" in section.facts["ONNX of torch"], section
    assert section.status == "passed", section
    assert section.facts["ONNX of torch, another batch"].startswith("not tried: ")
