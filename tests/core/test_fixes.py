"""A line to paste names the framework of the model that it changes."""

import pytest

from keras3conv.fixes import in_framework, joined_fixes, listed_fixes, named_layer


@pytest.mark.parametrize(
    ("line", "named"),
    [
        ("nn.GELU()", "nn.GELU()  # torch"),
        ("padding=0  # conv1", "padding=0  # torch: conv1"),
        ("padding=0  # 0", "padding=0  # torch: layer 0"),
        ("x = F.relu(x)  # 4, for silu", "x = F.relu(x)  # torch: layer 4, for silu"),
        ("x = F.pad(x, (0, 1))  # before 0.conv2", "x = F.pad(x, (0, 1))  # torch: before layer 0.conv2"),
        ("# before head: without abs", "# torch: before head: without abs"),
        ("padding=0  # a\nx = x + 1  # b", "padding=0  # torch: a\nx = x + 1  # torch: b"),
        ('plan = plan.pair("a", "b")', 'plan = plan.pair("a", "b")'),
        ("k3c.transfer(module, model, plan)", "k3c.transfer(module, model, plan)"),
        ("", ""),
    ],
)
def test_a_line_gets_the_name_of_its_framework_once(line: str, named: str) -> None:
    assert in_framework(line, "torch") == named
    assert in_framework(named, "keras") == (named if "torch" in named else in_framework(line, "keras"))


def test_lines_for_several_layers_name_the_framework_once() -> None:
    fixes = [("padding=0  # torch: c1, after x", f"x=1  # Keras: c{number}") for number in (1, 2)]
    assert joined_fixes(fixes) == ("padding=0  # torch: c1, after x", "x=1  # Keras: c1, c2")


def test_a_line_with_a_comment_ends_there() -> None:
    assert listed_fixes(("a=1  # torch: x", "b=1  # Keras: x"), "or") == "a=1  # torch: x\nor    b=1  # Keras: x"
    assert listed_fixes(("a=1", "b=1  # x"), "or") == "a=1     or     b=1  # x"


def test_a_layer_whose_path_is_a_number_is_called_a_layer() -> None:
    assert (named_layer("0.conv"), named_layer("conv.0")) == ("layer 0.conv", "conv.0")
