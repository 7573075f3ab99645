import pytest

from tests.support.grouping import fast_tests, objection

pytest_plugins = ("pytester",)


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


def test_fast_tests_are_the_first_case_of_each_test_that_is_not_slow(pytester: pytest.Pytester) -> None:
    items = pytester.getitems(
        """
        import pytest

        slow = pytest.mark.slow

        @pytest.mark.parametrize("case", [pytest.param(1, marks=slow), 2, 3])
        def test_cases(case): ...

        @slow
        def test_slow(): ...

        def test_single(): ...
        """
    )
    assert [item.name for item in fast_tests(items)] == ["test_cases[2]", "test_single"]
