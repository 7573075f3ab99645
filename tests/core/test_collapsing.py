"""Repeated blocks become one line, whose pattern stands for exactly the original paths."""

import re
from itertools import product

from hypothesis import given
from hypothesis import strategies as st

from keras3conv.collapsing import collapse

_BRACES = re.compile(r"\{(=|[0-9]+\.\.[0-9]+(?:\.\.[0-9]+)?)\}")


def expanded(pattern: str) -> list[str]:
    """Return every path that a pattern stands for, by the definition of patterns."""
    pieces = _BRACES.split(pattern)
    ranges = [() if text == "=" else _numbers(text) for text in pieces[1::2]]
    paths = []
    for chosen in product(*(numbers or (None,) for numbers in ranges)):
        path, last = pieces[0], None
        for number, text in zip(chosen, pieces[2::2], strict=True):
            last = last if number is None else number
            path += f"{last}{text}"
        paths.append(path)
    return paths


def _numbers(text: str) -> tuple[int, ...]:
    start, stop, *step = (int(number) for number in text.split(".."))
    return tuple(range(start, stop + 1, *step))


def collapsed(paths: list[str]) -> list[str]:
    """Return the patterns for paths in a single column."""
    return [line.paths[0] for line in collapse([(path,) for path in paths])]


def test_blocks_become_one_line_on_both_sides() -> None:
    rows = [
        (f"layer{stage}.{block}.conv", f"stack{stage}_block{block + 1}_conv") for stage in (1, 2) for block in range(3)
    ]
    (line,) = collapse(rows)
    assert line.paths == ("layer{1..2}.{0..2}.conv", "stack{1..2}_block{1..3}_conv")
    assert line.places == (0, 1, 2, 3, 4, 5)


def test_stages_of_different_length_are_not_collapsed() -> None:
    paths = [f"layer{stage}.{block}" for stage, blocks in ((1, 3), (2, 3), (3, 2)) for block in range(blocks)]
    assert collapsed(paths) == ["layer{1..2}.{0..2}", "layer3.{0..1}"]


def test_successive_numbers_are_one_line_as_long_as_they_have_nine_digits() -> None:
    last = 10**9 - 1
    assert collapsed([f"l{last - 1}", f"l{last}"]) == [f"l{{{last - 1}..{last}}}"]
    assert collapsed([f"l{last}", f"l{last + 1}"]) == [f"l{last}", f"l{last + 1}"]
    assert collapsed(["l0.x", "l1.x", "l2.x"]) == ["l{0..2}.x"]
    assert collapsed(["l0.x", "l2.x", "l2.y"]) == ["l0.x", "l2.x", "l2.y"]


def test_rows_that_differ_in_more_than_numbers_are_not_collapsed() -> None:
    rows = [("conv1",), ("conv2",), ("conv3",)]
    assert [line.paths[0] for line in collapse(rows, ["shape", "name", "name"])] == ["conv1", "conv{2..3}"]


def test_a_range_with_a_larger_step_shows_the_step() -> None:
    rows = [("0.conv", "conv2d_2"), ("1.conv", "conv2d_4"), ("2.conv", "conv2d_6")]
    assert [line.paths for line in collapse(rows)] == [("{0..2}.conv", "conv2d_{2..6..2}")]


def test_two_rows_are_too_few_for_a_larger_step() -> None:
    assert len(collapse([("0.conv", "conv2d_2"), ("1.conv", "conv2d_7")])) == 2


def test_a_number_that_is_repeated_in_a_path_is_written_as_equal() -> None:
    assert collapsed(["block1/block1_conv", "block2/block2_conv"]) == ["block{1..2}/block{=}_conv"]


def test_two_different_numbers_of_a_path_that_advance_together_are_not_collapsed() -> None:
    assert collapsed(["stage0.block3", "stage1.block4"]) == ["stage0.block3", "stage1.block4"]


def test_leading_zeros_are_kept() -> None:
    assert collapsed(["conv01", "conv02"]) == ["conv01", "conv02"]


def test_lines_come_in_the_order_of_their_first_rows() -> None:
    assert collapsed(["0.conv", "0.norm", "1.conv", "1.norm", "fc"]) == ["{0..1}.conv", "{0..1}.norm", "fc"]


_NAMES = st.lists(
    st.tuples(st.sampled_from("ab"), st.lists(st.integers(0, 3), max_size=4)).map(
        lambda name: name[0] + "".join(f"/x{number}" for number in name[1])
    ),
    unique=True,
    max_size=40,
)


@given(_NAMES)
def test_patterns_stand_for_exactly_the_paths_they_came_from(paths: list[str]) -> None:
    lines = collapse([(path,) for path in paths])
    assert sorted(place for line in lines for place in line.places) == list(range(len(paths)))
    for line in lines:
        assert sorted(expanded(line.paths[0])) == sorted(paths[place] for place in line.places)


@given(_NAMES)
def test_both_columns_stand_for_their_own_paths(paths: list[str]) -> None:
    rows = [(path, "/".join(reversed(path.split("/"))).replace("x", "y0z")) for path in paths]
    for line in collapse(rows):
        for column in (0, 1):
            found = expanded(line.paths[column])
            assert set(found) == {rows[place][column] for place in line.places}
