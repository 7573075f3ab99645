import pytest

from tests.support.grouping import objection


@pytest.mark.parametrize(
    ("groups", "backend"),
    [({"core"}, "jax"), ({"torch_backend", "backends"}, "torch"), ({"jax_backend", "backends"}, "jax"), (set(), "jax")],
)
def test_groups_that_share_a_backend_share_a_process(groups: set[str], backend: str) -> None:
    assert objection(groups, backend) == ""


def test_the_core_runs_alone() -> None:
    assert "run it alone" in objection({"core", "backends"}, "torch")


def test_the_tests_of_one_backend_run_on_no_other() -> None:
    expected = "tests/torch_backend runs with KERAS_BACKEND=torch, not jax"
    assert objection({"torch_backend", "backends"}, "jax") == expected
