"""Decide which groups of tests may share a process.

Keras has one backend per process, and the core proves that it needs no framework.
"""


def objection(groups: set[str], backend: str) -> str:
    """Return the reason why these folders of tests cannot run together on this backend; empty if they can."""
    if "core" in groups and len(groups) > 1:
        return "tests/core proves that it needs no framework: run it alone, or run `make test`"
    for group in sorted(groups):
        if group.endswith("_backend") and group != f"{backend}_backend":
            return f"tests/{group} runs with KERAS_BACKEND={group.removesuffix('_backend')}, not {backend}"
    return ""
