"""Errors fit the width of the terminal when they are printed; the lines to paste in them stay whole."""

import sys
import traceback

import pytest

from keras3conv.errors import AlignmentError, FileError, InputError, Problem, message_of
from keras3conv.messages import lay_out
from keras3conv.width import column_widths, fitted_table, folded, keeps_words

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
    lines = fitted_table(NAMES, FIELDS, 78)
    assert max(map(len, lines)) <= 78
    words = {word for row in (NAMES, *FIELDS) for cell in row for word in cell.split()}
    assert words <= set(" ".join(lines).split())


def test_words_are_broken_where_there_is_no_room_for_them() -> None:
    assert column_widths([("a" * 16, "b c " * 20)], 40) == [16, 22]
    assert column_widths([("a" * 16, "b" * 16)], 30) == [14, 14]
    assert column_widths([("a" * 30, "b" * 30)], 40) == [19, 19]
    assert column_widths([("a" * 30, "b" * 30)], 40, whole={0}) == [30, 12]
    assert column_widths([("largest difference", "b" * 30), ("1.234567890e-17", "")], 30, numeric={0}) == [15, 13]


def test_names_are_broken_only_if_the_table_does_not_fit_otherwise() -> None:
    name, text = "encoder/layers_{0..5}/attention/query", "a sentence of some words, " * 4
    assert not any(name in line for line in fitted_table(("name", "text"), [(name, text)], 50))
    table = fitted_table(("name", "text"), [(name, text)], 60, unbroken=(0,))
    assert any(line.startswith(f"{name}  ") for line in table)
    assert max(map(len, table)) <= 60
    assert keeps_words(("name", "text"), [(name, text)], 60, (0,))
    assert not keeps_words(("name", "text"), [(name, text)], 40, (0,))
    assert max(map(len, fitted_table(("name", "text"), [(name, text)], 40, unbroken=(0,)))) <= 40
