"""What every group of tests shares. A group (a folder) runs in a process of its own; `make test` runs them all."""

import os
from pathlib import Path

import pytest
from hypothesis import settings

from tests.support.grouping import objection

# Keras' own default is tensorflow; the groups that need another backend are started with this variable set.
os.environ.setdefault("KERAS_BACKEND", "torch")
# The start-up banner of tensorflow would be captured into the first test that imports it.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

ROOT = Path(__file__).resolve().parent.parent

# Forty examples a law keep the core quick enough to run after every edit; HYPOTHESIS_PROFILE=thorough tries a thousand.
settings.register_profile("quick", max_examples=40, deadline=None)
settings.register_profile("thorough", max_examples=1000, deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "quick"))


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real models and images, which is not part of the repository."""
    folder = Path(os.environ.get("KERAS3CONV_SHARED") or ROOT.parent / "shared")
    # The variable, like the folder beside the checkout, may name the data or the folder that holds them.
    for candidate in (folder / "data", folder):
        if (candidate / "mlperf_tiny_resnet8.h5").is_file():
            return candidate
    pytest.skip(f"no shared data in {folder}: set KERAS3CONV_SHARED")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keeps the core alone in its process, the torch tests on their backend, and tests marked `last` at the end."""
    groups = {item.path.relative_to(ROOT / "tests").parts[0] for item in items}
    if reason := objection(groups, os.environ["KERAS_BACKEND"]):
        raise pytest.UsageError(reason)
    items.sort(key=lambda item: item.get_closest_marker("last") is not None)
