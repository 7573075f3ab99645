"""The page of the Python interface lists the public names with the summaries of their docstrings."""

from docs.tools.python_page import PAGE, with_tables


def test_the_tables_of_public_names_are_current() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert with_tables(text) == text


def test_the_check_detects_an_outdated_summary() -> None:
    text = PAGE.read_text(encoding="utf-8")
    outdated = text.replace("| `keras3conv.errors.Problem` | ", "| `keras3conv.errors.Problem` | Old words: ")
    assert outdated != text
    assert with_tables(outdated) == text
