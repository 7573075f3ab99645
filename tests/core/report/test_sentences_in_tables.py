"""A sentence in a table stands below its row if it has no room beside the other columns."""

import re

import pytest

from keras3conv.report import text
from keras3conv.report.report import Report
from keras3conv.report.values import Section, Table

WHY = "proven by float64: Keras applies the activation inside the layer; in torch it is a call after this layer"


def one_table(table: Table) -> Report:
    return Report(title="a", sections=(Section(name="s", status="passed", claim="", summary="", tables=(table,)),))


def test_a_sentence_is_below_its_row_also_if_the_names_of_the_columns_must_be_folded() -> None:
    columns = ("torch", "field", "value", "keras", "field in keras", "value in keras", "expected value", "verdict")
    rows = (("a", "no such field", None, "a", "activation", "relu", "x in Keras", WHY),)
    table = Table(title="hyper-parameters", columns=columns, rows=rows)
    lines = text.write(one_table(table), width=80).splitlines()
    start = next(number for number, line in enumerate(lines) if "proven by float64" in line)
    assert " ".join(lines[start : start + 2]).split() == WHY.split()
    assert max(map(len, lines)) <= 80


@pytest.mark.parametrize(("width", "below"), [(80, True), (120, False)])
def test_a_sentence_with_little_room_in_a_table_is_printed_below_its_row(width: int, below: bool) -> None:
    sentence = "the Keras layer pads one row at the end, and the torch layer pads one row on both sides of the image"
    names = ("encoder.stage1.block0.conv1", "encoder_stage1_block0_conv1", "padding")
    rows = ((*names, sentence, 0.0123), ("stem", "stem", "padding", "equal", 0.0))
    table = Table(columns=("torch", "keras", "field", "verdict", "error"), rows=rows)
    written = text.write(one_table(table), width=width)
    assert max(map(len, written.splitlines())) <= width
    assert sentence in " ".join(written.split()) or not below
    assert bool(re.search(r"padding  +0\.0123\n +the Keras layer pads one row", written)) is below
