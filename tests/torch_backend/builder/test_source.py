"""The text that is written: only identifiers and literals, formatted as a formatter would."""

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
def test_plain_values_are_written_so_that_python_reads_them_back(value: object, written: str) -> None:
    assert literal(value) == written
    assert value == float("inf") or ast.literal_eval(written) == value


@pytest.mark.parametrize("value", [object(), print, {1: 2}, b"x", 1j])
def test_what_is_no_plain_value_is_never_written(value: object) -> None:
    with pytest.raises(RuleError, match="no plain value"):
        literal(value)


def test_a_constructor_is_given_what_torch_does_not_assume() -> None:
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
def test_a_long_statement_is_broken_and_means_the_same(text: str) -> None:
    lines = list(statement(0, text))
    assert ast.dump(ast.parse("\n".join(lines))) == ast.dump(ast.parse(text))
    assert max(map(len, lines)) <= WIDTH
    assert len(lines) > 1


@pytest.mark.parametrize("make", MODELS, ids=lambda make: make.__name__)
def test_the_text_is_what_a_formatter_would_leave(make: object, tmp_path: Path) -> None:
    assert callable(make)
    (tmp_path / "model.py").write_text(k3c.convert(make(), validate=False).source)
    command = [sys.executable, "-m", "ruff", "format", "--isolated", "--line-length", str(WIDTH), "--diff", "model.py"]
    finished = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stdout


def test_the_same_model_is_always_written_the_same() -> None:
    assert k3c.convert(residual(), validate=False).source == k3c.convert(residual(), validate=False).source


def test_a_normalisation_is_written_as_a_person_would() -> None:
    given = keras.Input((4, 6))
    x = keras.layers.UnitNormalization()(keras.layers.LayerNormalization(name="norm")(given))
    source = k3c.convert(keras.Model(given, x), validate=False).source
    assert "self.norm = nn.LayerNorm(6, eps=0.001)" in source
    assert "F.normalize(self.norm(x), dim=-1)" in source
