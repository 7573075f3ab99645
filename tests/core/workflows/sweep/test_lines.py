import tomllib

from keras3conv.workflows.sweep.lines import key_lines, line_of

TEXT = '''\
# a comment with [brackets] and key = 1
[sweep]
name = "a # b ["   # x = [

[[task]]
torch = "a"
shape = [
  1,  # ]
  2,
]
[task.matrix]
dtype = ["a",
  "b"]
backend = ["torch"]

[[task]]
"quoted key".b = """
x = 1
[[task]]
"""
keras = 'c'
hints = { fc = "dense" }
'''


def test_the_text_is_valid_toml() -> None:
    assert len(tomllib.loads(TEXT)["task"]) == 2


def test_every_table_and_key_has_its_line() -> None:
    assert key_lines(TEXT) == {
        ("sweep",): 2,
        ("sweep", "name"): 3,
        ("task", 0): 5,
        ("task", 0, "torch"): 6,
        ("task", 0, "shape"): 7,
        ("task", 0, "matrix"): 11,
        ("task", 0, "matrix", "dtype"): 12,
        ("task", 0, "matrix", "backend"): 14,
        ("task", 1): 16,
        ("task", 1, "quoted key", "b"): 17,
        ("task", 1, "keras"): 21,
        ("task", 1, "hints"): 22,
    }


def test_a_missing_key_has_the_line_of_its_table() -> None:
    lines = key_lines(TEXT)
    assert line_of(lines, ("task", 1, "hints", "fc")) == 22
    assert line_of(lines, ("task", 1, "missing")) == 16
    assert line_of(lines, ("missing",)) == 1
