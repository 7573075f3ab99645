"""Fixtures and collection rules of all groups of tests. Each group (a folder) runs in a separate process."""

import gc
import os
import random
import shutil
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

from tests.support.grouping import fast_tests, objection

ROOT = Path(__file__).resolve().parent.parent

# Keras' own default is tensorflow; the groups that need another backend are started with this variable set.
os.environ.setdefault("KERAS_BACKEND", "torch")
# The start-up banner of tensorflow would be captured into the first test that imports it.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# The tensors of the tests are tiny: threads that wait for each other would take most of the processor time.
for variable in ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"):
    os.environ.setdefault(variable, "1")
# Messages and listings are folded to the width of the terminal; names of temporary folders would move the line breaks.
WIDTH = shutil.get_terminal_size((80, 24)).columns
os.environ["COLUMNS"] = "1000"
# Without oneDNN, which tensorflow enables only on some processors, it has no channels-first and no dilated convolution.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
# JAX compiles every operation for every shape and runs it once: fast compilation matters more than fast code.
_COMPILE_QUICKLY = (
    "backend_optimization_level=0",
    "llvm_disable_expensive_passes=true",
    "cpu_use_fusion_emitters=false",
)
os.environ.setdefault("XLA_FLAGS", " ".join(f"--xla_{flag}" for flag in _COMPILE_QUICKLY))
# It reads again what it compiled in an earlier run: two fifths of the time of the laws, in twenty megabytes.
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(ROOT / ".pytest_cache" / "jax"))
for variable, value in (("MIN_COMPILE_TIME_SECS", "0"), ("MIN_ENTRY_SIZE_BYTES", "-1")):  # small operations as well
    os.environ.setdefault(f"JAX_PERSISTENT_CACHE_{variable}", value)

# The frameworks create millions of objects that live to the end: searching them for garbage takes a tenth of the time.
gc.disable()

# Forty examples a law keep the core quick enough to run after every edit; HYPOTHESIS_PROFILE=thorough tries a thousand.
# No deadline and no check for slow data: the speed of the machine must not decide a result.
_QUICK = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("quick", _QUICK)
settings.register_profile("thorough", _QUICK, max_examples=1000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "quick"))


# The test that this process runs: `make test` prints what is left of these files, the tests that ended their process.
RUNNING = ROOT / ".pytest_cache" / "running" / f"{os.getpid()}.txt"


def pytest_sessionstart(session: pytest.Session) -> None:
    """Let pytest itself print for the terminal that there is."""
    session.config.get_terminal_writer().fullwidth = WIDTH
    RUNNING.parent.mkdir(parents=True, exist_ok=True)


def pytest_runtest_logstart(nodeid: str) -> None:
    """Note which test runs, for the case that it crashes or hangs."""
    RUNNING.write_text(f"{nodeid}\n")


def pytest_sessionfinish() -> None:
    """Forget the last test, which has ended."""
    RUNNING.unlink(missing_ok=True)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options of `make test-full` and `make test-fast`."""
    parser.addoption("--full", action="store_true", help="run also the tests that are marked as full")
    parser.addoption("--fast", action="store_true", help="leave out slow tests, and all cases but the first of a test")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Refuse groups that exclude each other, leave out tests as the options say, and put those marked `last` last."""
    groups = {item.path.relative_to(ROOT / "tests").parts[0] for item in items}
    if reason := objection(groups, os.environ["KERAS_BACKEND"]):
        raise pytest.UsageError(reason)
    chosen = list(items)
    if not config.getoption("--full"):
        chosen = [item for item in chosen if not item.get_closest_marker("full")]
    if config.getoption("--fast"):
        chosen = list(fast_tests(chosen))
    left_out = set(items).difference(chosen)
    config.hook.pytest_deselected(items=[item for item in items if item in left_out])
    items[:] = chosen
    items.sort(key=lambda item: item.get_closest_marker("last") is not None)


def pytest_collection_finish() -> None:
    """Search for garbage seldom, and only among the objects that the tests create, not the imported modules."""
    _leave_modules_out()
    gc.set_threshold(50_000, 20, 20)
    gc.enable()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Seed all random numbers by the name of the test, so that a test has the same weights and inputs in every run."""
    seed = zlib.crc32(item.nodeid.encode())
    random.seed(seed)  # Keras draws from it the seed of an initializer that has none
    np.random.seed(seed)  # noqa: NPY002 - the generator that code without a generator of its own uses
    if torch := sys.modules.get("torch"):
        torch.manual_seed(seed)


def pytest_runtest_logfinish() -> None:
    """Leave also the frameworks out that a test was the first to import."""
    if len(sys.modules) > _MODULES_LEFT_OUT[-1] + MANY_MODULES:
        gc.collect()  # what is left out is never freed
        _leave_modules_out()


MANY_MODULES = 100
"""So many imported modules have more objects than the tests create between two searches for garbage."""

_MODULES_LEFT_OUT = [0]


def _leave_modules_out() -> None:
    """Leave all present objects out of the search for garbage."""
    gc.freeze()
    _MODULES_LEFT_OUT.append(len(sys.modules))


@pytest.fixture(scope="session")
def shared() -> Path:
    """Return the folder of real models and images, which is not part of the repository."""
    folder = Path(os.environ.get("KERAS3CONV_SHARED") or ROOT.parent / "shared")
    # The variable, like the folder beside the checkout, may name the data or the folder that holds them.
    for candidate in (folder / "data", folder):
        if (candidate / "mlperf_tiny_resnet8.h5").is_file():
            return candidate
    pytest.skip(f"no shared data in {folder}: set KERAS3CONV_SHARED")
