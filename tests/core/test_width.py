"""Errors fit the width of the terminal when they are printed; the lines to paste in them stay whole."""

import re
import sys
import traceback

import pytest

from keras3conv.errors import AlignmentError, FileError, InputError, Problem, message_of
from keras3conv.messages import lay_out
from keras3conv.width import column_widths, fitted_table, folded, keeps_words, wrapped

FACT = "weight_ih_l0 (28, 5), weight_hh_l0 (28, 7), bias_ih_l0 (28,), bias_hh_l0 (28,) matched nothing; same: " * 4
LINE = 'plan = plan.pair(["encoder.query", "encoder.key", "encoder.value"], "encoder/attention/query_key_value")'


def printed(error: Exception) -> list[str]:
    """Return the lines that Python prints for an error that nobody catches."""
    return "".join(traceback.format_exception_only(error)).rstrip().splitlines()


@pytest.fixture(autouse=True)
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let errors be printed on a terminal of eighty columns."""
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)


def test_an_error_of_399_characters_fits_eighty_columns() -> None:
    problem = Problem(torch="encoder.rnn", fact=FACT, fixes=(LINE, "plan = plan.ignore('rnn', 'reason')"))
    headline = "3 problems in the alignment of a net with a long name (torch) and another one (keras); 2 pairs matched"
    *lines, first, second = printed(AlignmentError(lay_out(headline, [problem])))
    assert len(FACT) > 399
    assert max(map(len, lines)) <= 80
    assert lines[0].startswith("keras3conv.errors.AlignmentError: 3 problems in the alignment of")
    assert " ".join(" ".join(lines).split()).endswith(FACT.strip())
    assert (first, second) == (f"Fix:  {LINE}", "or    plan = plan.ignore('rnn', 'reason')")


def test_the_name_of_the_error_counts_on_the_first_line() -> None:
    for length in range(20, 120):
        lines = printed(InputError("word " * length))
        assert max(map(len, lines)) <= 80
        assert " ".join(lines).count("word") == length


def test_code_after_the_fix_stays_as_it_is() -> None:
    code = f"x = 1\n{LINE}\n    {LINE}"
    assert str(FileError(f"what\nFix:  {code}")) == f"what\nFix:  {code}"


def test_a_message_in_another_message_is_not_folded() -> None:
    error = InputError("word " * 50)
    assert message_of(error) == error.message == f"{error}" == "word " * 50
    assert message_of(ValueError("word " * 50)) == "word " * 50


def test_without_a_terminal_the_lines_are_as_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: False)
    assert str(InputError("word " * 50)) == "word " * 50
    monkeypatch.setattr(sys, "stderr", None)
    assert str(InputError("word " * 50)) == "word " * 50


def test_a_wide_terminal_gets_long_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    assert len(printed(InputError("word " * 30))) == 1


def test_a_short_text_is_not_changed() -> None:
    assert folded("  a  b\n\nc") == "  a  b\n\nc"


NAMES = ("verdict", "torch", "field", "value", "keras", "field in keras", "value in keras", "expected value")
FIELDS = [
    ("equal", "0", "padding_mode", "zeros", "conv2d", "", "", "zeros"),
    ("equal", "0", "dilation", "(1, 1)", "conv2d", "dilation_rate", "(1, 1)", "(1, 1)"),
    ("equal", "0", "requires_grad", "True", "conv2d", "trainable", "True", "True"),
]


def test_cells_break_at_spaces_where_the_words_have_room() -> None:
    lines = fitted_table(NAMES, FIELDS, 78).lines
    assert max(map(len, lines)) <= 78
    words = {word for row in (NAMES, *FIELDS) for cell in row for word in cell.split()}
    assert words <= set(" ".join(lines).split())


def test_columns_are_narrowed_to_their_words_and_then_to_the_names_in_paths() -> None:
    assert column_widths([("a" * 16, "b c " * 20)], 40) == [16, 22]
    assert column_widths([("a" * 16, "b" * 16)], 34) == [16, 16]
    assert column_widths([("a" * 16, "b" * 16)], 33) is None
    assert column_widths([("layer1.0.convolution", "layer1/0/convolution")], 30) == [14, 14]
    assert column_widths([("layer1.0.convolution", "layer1/0/convolution")], 20) is None
    assert column_widths([("largest difference", "b" * 16), ("1.234567890e-17", "")], 33) == [15, 16]
    assert column_widths([("largest difference", "b" * 16), ("1.234567890e-17", "")], 32) is None


def test_whole_columns_are_narrowed_only_if_the_table_does_not_fit_otherwise() -> None:
    rows = [("two words", "a sentence of some words, " * 4)]
    assert column_widths(rows, 20, whole=[0]) == [9, 9]
    assert column_widths(rows, 18, whole=[0]) == [8, 8]
    assert keeps_words(("name", "text"), rows, 16)
    assert not keeps_words(("name", "text"), rows, 14)


PATHS = ("features.denseblock4.denselayer16.conv2", "features_denseblock4_denselayer16_convolution_2")
VALUES = ("1.23e-07", "2.13.0+cpu", "--torch-weights", "1,234,567", "-0.00012", "(1, 3, 224, 224)")


@pytest.mark.parametrize("width", range(40, 180, 7))
def test_no_number_option_or_name_in_a_path_is_broken(width: int) -> None:
    names = ("torch", "keras", "relative error", "version", "option", "elements", "difference", "shape")
    table = fitted_table(names, [(*PATHS, *VALUES)] * 3, width)
    words = " ".join(table.lines).split()
    assert {part for value in VALUES for part in value.split()} <= set(words)
    assert PATHS[1] in words
    assert {*PATHS[0].split(".")} <= set(re.split(r"[.\s]+", " ".join(words)))
    assert max(map(len, table.lines)) <= max(width, len(f"  keras: {PATHS[1]}"))


def test_a_row_without_room_for_its_names_is_a_list() -> None:
    rows = [(*PATHS, "1.23e-07", "12"), ("fc", "dense", "-", "1")]
    table = fitted_table(("torch", "keras", "relative error", "calls"), rows, 60)
    assert table.head == ()
    assert table.rows == (
        (f"torch: {PATHS[0]}", f"  keras: {PATHS[1]}", "  relative error: 1.23e-07 | calls: 12"),
        ("torch: fc | keras: dense | relative error: - | calls: 1",),
    )


def test_a_list_shows_that_a_cell_has_no_value_and_leaves_out_a_cell_without_text() -> None:
    names = ("verdict", "torch", "field", "value", "keras", "field in keras", "note" * 4)
    table = fitted_table(names, [("equal", "block", "no_such_field", "-", "dense_one", "activation", "")], 50)
    first, second, third = table.rows[0]
    assert first == "verdict: equal | torch: block"
    assert second == "  field: no_such_field | value: -"
    assert third == "  keras: dense_one | field in keras: activation"


def test_paths_are_broken_between_names_if_that_takes_fewer_lines_than_a_list() -> None:
    rows = [("block.attention", "block/attention", "1.23e-07")] * 2
    lines = fitted_table(("torch", "keras", "error"), rows, 30, numeric=[2]).lines
    assert lines[2:4] == ["block.     block/     1.23e-07", "attention  attention"]


def test_a_text_breaks_inside_a_path_only_after_a_separator() -> None:
    assert wrapped("a encoder.layer.10.attention", 16) == ["a", "encoder.layer.", "10.attention"]
    assert wrapped("net/layer.weight/kernel", 10) == ["net/", "layer.weight/", "kernel"]
    assert wrapped("layer{0..11}.conv", 12) == ["layer{0..11}.", "conv"]
    assert wrapped("torch-2.13.0+cpu", 8) == ["torch-2.13.0+cpu"]
    assert wrapped("", 8) == [""]
