"""Decide which groups of tests may share a process, and which tests belong to the fast ones.

Keras has one backend per process, and the core proves that it needs no framework.
"""

from collections.abc import Iterable, Iterator

import pytest


def objection(groups: set[str], backend: str) -> str:
    """Return the reason why these folders of tests cannot run together on this backend; empty if they can."""
    if "core" in groups and len(groups) > 1:
        return "tests/core proves that it needs no framework: run it alone, or run `make test`"
    for group in sorted(groups):
        if group.endswith("_backend") and group != f"{backend}_backend":
            return f"tests/{group} runs with KERAS_BACKEND={group.removesuffix('_backend')}, not {backend}"
    return ""


def fast_tests(items: Iterable[pytest.Item]) -> Iterator[pytest.Item]:
    """Yield the tests that are not marked as slow; of a test with parameters only the first case."""
    seen = set()
    for item in items:
        name = item.nodeid.partition("[")[0]
        if not item.get_closest_marker("slow") and name not in seen:
            seen.add(name)
            yield item
