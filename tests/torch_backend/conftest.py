"""Fixtures of the tests on torch."""

import pytest

from keras3conv.validators.diagnosis import divergence


@pytest.fixture
def without_causes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Disable the search for causes, which takes longer than the proofs, where only the verdict is tested."""
    monkeypatch.setattr(divergence, "SEARCH_VALUES", 0)
