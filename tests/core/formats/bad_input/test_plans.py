"""Plans that are damaged or hostile are refused."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from keras3conv.errors import FileError
from keras3conv.planner.plan import plan
from keras3conv.transforms import from_json
from keras3conv.workflows.files import read_plan
from tests.core.planner.test_plan import dense, keras_model, linear, torch_model
from tests.support import guarded
from tests.support.guarded import Case, Outcome


def good() -> Any:
    torch = torch_model(linear("stem", 3, 4, 0), linear("head", 4, 4, 1))
    return json.loads(plan(torch, keras_model(dense("a", 3, 4, 0), dense("b", 4, 4, 1))).check().to_json())


def edited(change: Callable[[Any], object]) -> Callable[[Path], Path]:
    def build(folder: Path) -> Path:
        data = good()
        change(data)
        (folder / "plan.json").write_text(json.dumps(data))
        return folder / "plan.json"

    return build


def text(content: str) -> Callable[[Path], Path]:
    def build(folder: Path) -> Path:
        (folder / "plan.json").write_text(content)
        return folder / "plan.json"

    return build


def tensor(**values: Any) -> Callable[[Path], Path]:
    """Return a builder of a plan whose first torch tensor has changed fields."""
    return edited(lambda data: data["torch"]["layers"][0]["tensors"][0].update(values))


def transform(value: Any) -> Callable[[Path], Path]:
    return edited(lambda data: data["pairs"][0]["weights"][0].update(transform=value))


def pipe(folder: Path) -> Path:
    os.mkfifo(folder / "plan.json")
    return folder / "plan.json"


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


def nested_transforms(depth: int) -> Any:
    value: Any = {"same": True}
    for _ in range(depth):
        value = {"chain": [value]}
    return value


def warm_up() -> None:
    """Read a transform of each class once, because the annotations of a class are evaluated on first use."""
    for example in ({"sum": 2}, {"stack": 2, "axis": 0}, {"take": [1, 0], "axis": 0}, {"chain": [{"same": True}]}):
        from_json(example)


CASES = {
    name: Case(build=build, error=FileError, says=f"plan.json(.|\\n)*{says}", use=read_plan)
    for name, (build, says) in {
        "a good plan with its shapes as texts": (tensor(shape=["4", "3"]), "instead of a list of whole numbers"),
        "a shape with points": (tensor(shape=[4.0, 3.0]), "instead of a list of whole numbers"),
        "a shape of booleans": (tensor(shape=[True, True]), "instead of a list of whole numbers"),
        "a shape that is a text": (tensor(shape="43"), "instead of a list of whole numbers"),
        "a negative size": (tensor(shape=[-4, 3]), "instead of a list of whole numbers"),
        "100 axes": (tensor(shape=[1] * 100), "cannot have the shape"),
        "an axis of 2**70": (tensor(shape=[2**70]), "cannot have the shape"),
        "an unknown dtype": (tensor(dtype="floaty"), "unknown dtype 'floaty'"),
        "the dtype of objects": (tensor(dtype="O"), "unknown dtype 'O'"),
        "a name that is a number": (tensor(path=5), "instead of a text"),
        "a name with a lone surrogate": (tensor(path="a\ud800"), "surrogates not allowed"),
        "a name of a megabyte": (tensor(path="a" * 10**6), "instead of a text of at most"),
        "another fingerprint": (tensor(shape=[9, 9]), "fingerprint"),
        "an input with a point in its shape": (
            edited(lambda data: data["torch"].update(inputs=[{"shape": [1.5], "dtype": "float32", "name": ""}])),
            "instead of a list of whole numbers",
        ),
        "a configuration nested 500 times": (
            edited(lambda data: data["torch"]["layers"][0].update(config={"a": nested(500)})),
            "more than 64 levels",
        ),
        "a configuration that is a list": (
            edited(lambda data: data["torch"]["layers"][0].update(config=[1])),
            "instead of a layer's configuration",
        ),
        "an unknown transform": (transform({"run": "rm"}), "not a transform"),
        "transforms in each other 300 times": (transform(nested_transforms(300)), "more than 64 levels"),
        "an axis of 10**15": (transform({"stack": 2, "axis": 10**15}), "is not a whole number of at most"),
        "an axis with a point": (transform({"stack": 2, "axis": 1.5}), "not a transform"),
        "a sum of 10**9 arrays": (transform({"sum": 10**9}), "may be at most"),
        "a permutation of 100,000 blocks with one twice": (
            transform({"take": [0, *range(100_000)], "axis": 0}),
            "not a plan",
        ),
        "a pattern that cannot be reversed": (transform({"axes": "a b -> a a"}), "reversed|twice"),
        "pairs that are a number": (edited(lambda data: data.update(pairs=5)), "not a plan"),
        "a key twice": (text('{"keras3conv": "alignment", "keras3conv": "alignment"}'), "occurs twice"),
        "JSON with a depth of 100,000": (text("[" * 100_000), "it is not JSON"),
        "a number of 5,000 digits": (text('{"a": ' + "1" * 5000 + "}"), "it is not JSON"),
        "no JSON": (text("\x1b[2J"), "it is not JSON"),
        "another format": (text('{"keras3conv": "alignment", "format": "\\u001b[2J"}'), "has the format"),
        "an empty file": (text(""), "is empty"),
        "a named pipe": (pipe, "not a regular file"),
    }.items()
}


@pytest.fixture(scope="module")
def outcomes() -> dict[str, Outcome]:
    return guarded.outcomes(__name__)


@pytest.mark.parametrize("case", CASES)
def test_a_bad_plan_is_refused_without_side_effects(case: str, outcomes: dict[str, Outcome]) -> None:
    guarded.check(CASES[case], outcomes[case])


def test_the_unchanged_plan_of_the_cases_is_valid(tmp_path: Path) -> None:
    assert len(read_plan(edited(lambda _: None)(tmp_path)).pairs) == 2
