"""The source code of generated modules: literals, constructor calls and formatting."""

import ast
import subprocess
import sys
from pathlib import Path

import keras
import pytest

import keras3conv as k3c
from keras3conv.builder.source.formatting import WIDTH, literal, statement
from keras3conv.builder.source.torch_source import construction
from keras3conv.errors import RuleError
from keras3conv.rules.rule import LayerSpec
from tests.torch_backend.builder.test_convert import MODELS, residual


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (1, "1"),
        (-0.5, "-0.5"),
        (float("inf"), 'float("inf")'),
        ('a"b\n', '"a\\"b\\n"'),
        ("it's", '"it\'s"'),
        ("\\", '"\\\\"'),
        ("ключ", '"\\u043a\\u043b\\u044e\\u0447"'),
        ((1,), "(1,)"),
        ([1, (2, "x")], '[1, (2, "x")]'),
        (None, "None"),
    ],
)
def test_python_reads_a_literal_back_as_the_same_value(value: object, written: str) -> None:
    assert literal(value) == written
    assert value == float("inf") or ast.literal_eval(written) == value


@pytest.mark.parametrize("value", [object(), print, {1: 2}, b"x", 1j])
def test_a_value_that_is_not_plain_is_refused(value: object) -> None:
    with pytest.raises(RuleError, match="cannot be written into source code"):
        literal(value)


def test_a_constructor_call_omits_default_arguments() -> None:
    config = {"in_channels": 3, "out_channels": 8, "kernel_size": (3, 3), "stride": (1, 1), "padding": (1, 1)}
    spec = LayerSpec(kind="torch.nn.Conv2d", config={**config, "groups": 1, "bias": True, "padding_mode": "zeros"})
    assert construction(spec) == "nn.Conv2d(3, 8, 3, padding=1)"


@pytest.mark.parametrize(
    "text",
    [
        "x = torch.cat([" + ", ".join(f"branch_number_{number}" for number in range(12)) + "], dim=1)",
        "x = F.attention(query, key, value, mask=(~mask_of_first).to(query.dtype) * (torch.finfo(x.dtype).min / 2))",
        'x = function_with_a_long_name(other_function("text, with ( brackets", second), third_argument_of_all, fourth)',
        "def forward(self, first_argument_of_all: torch.Tensor, second: torch.Tensor) -> dict[str, torch.Tensor]: pass",
        "self.a_name_that_is_long = AClassWithALongName(first_argument=11111, second_argument=22222, third=33333)",
    ],
)
def test_a_long_statement_is_broken_into_lines_with_the_same_meaning(text: str) -> None:
    lines = list(statement(0, text))
    assert ast.dump(ast.parse("\n".join(lines))) == ast.dump(ast.parse(text))
    assert max(map(len, lines)) <= WIDTH
    assert len(lines) > 1


@pytest.mark.parametrize("make", MODELS, ids=lambda make: make.__name__)
def test_a_formatter_does_not_change_the_source_code(make: object, tmp_path: Path) -> None:
    assert callable(make)
    (tmp_path / "model.py").write_text(k3c.convert(make(), validate=False).source)
    command = [sys.executable, "-m", "ruff", "format", "--isolated", "--line-length", str(WIDTH), "--diff", "model.py"]
    finished = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stdout


def test_the_source_code_is_deterministic() -> None:
    assert k3c.convert(residual(), validate=False).source == k3c.convert(residual(), validate=False).source


def test_a_normalization_of_the_last_axis_is_one_call() -> None:
    given = keras.Input((4, 6))
    x = keras.layers.UnitNormalization()(keras.layers.LayerNormalization(name="norm")(given))
    source = k3c.convert(keras.Model(given, x), validate=False).source
    assert "self.norm = nn.LayerNorm(6, eps=0.001)" in source
    assert "F.normalize(self.norm(x), dim=-1)" in source


def test_each_result_of_forward_has_the_expression_that_selects_it() -> None:
    given = keras.Input((4,))
    model = keras.Model(given, {"scores": keras.layers.Dense(2)(given), "parts": [given, keras.layers.Dense(3)(given)]})
    source = k3c.convert(model, validate=False).source
    assert 'returns["scores"]: (batch, 2), float32' in source
    assert 'returns["parts"][1]: (batch, 3), float32' in source
