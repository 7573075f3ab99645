"""Mark most of the planted mistakes as slow: `make test-fast` runs the first case of each test."""

from pathlib import Path

import pytest

FOLDER = Path(__file__).parent


@pytest.hookimpl(tryfirst=True)  # before pytest selects by `-m`
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark every parametrized case of this folder but the first of each test; cases that start no search stay fast."""
    seen: set[str] = set()
    for item in items:
        if isinstance(item, pytest.Function) and item.path.parent == FOLDER and item.path.stem != "test_every_suspect":
            test = item.nodeid.partition("[")[0]
            if test in seen:
                item.add_marker(pytest.mark.slow)
            seen.add(test)
