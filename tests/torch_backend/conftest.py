"""Settings and fixtures of the tests on torch."""

import pytest

from keras3conv.frameworks.keras.observing import tensorflow_not_imported
from keras3conv.validators.diagnosis import causes

_WITHOUT_TENSORFLOW = tensorflow_not_imported()
_WITHOUT_TENSORFLOW.__enter__()  # to the end: in three seconds, Keras would import it for the first layer in a wrapper


@pytest.fixture
def without_causes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Disable the search for causes, which takes longer than the proofs, where only the verdict is tested."""
    monkeypatch.setattr(causes, "SEARCH_VALUES", 0)
