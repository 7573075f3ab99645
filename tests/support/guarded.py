"""Read hostile files in a child process with limits that records forbidden actions, many files per child.

A module of tests defines `CASES`: for each name a `Case`, which builds a bad file. Its function `warm_up`, if there is
one, does once what the code under test does once in a process. `outcomes` reads the files of a
module in a child process and returns what happened to each; `check` asserts that nothing bad did. The child has limits
of memory, processor time and file size. An audit hook of Python notes what it opens, imports and starts.
"""

import contextlib
import hashlib
import importlib
import json
import os
import re
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from keras3conv import formats
from keras3conv.errors import FileError, Keras3ConvError

ROOT = Path(__file__).resolve().parents[2]

_MEMORY = 512 << 20
_GROWTH = 64 << 20
_GROWTH_PER_BYTE = 8
"""The memory may grow by `_GROWTH` bytes, or by this number of bytes per byte of the parsed header if that is more."""

_YARDSTICKS = 100.0
"""The processor time that reading a file may take, in units of `_yardstick`, so that a slow machine has more time."""

_LONGEST_MESSAGE = 2500

_STARTS = frozenset({"subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.fork", "pty.spawn"})
_READER = "keras3conv.formats.safe.hdf5_child"
"""The only program that may be started: the process that reads HDF5."""


def read_all(path: Path) -> None:
    """Read every tensor of a file."""
    view = formats.read(path)
    for tensor in view.tensors():
        view.read(tensor.path)


@dataclass(frozen=True, kw_only=True)
class Case:
    """A bad file and the required outcome of reading it.

    Attributes:
        build: A function that writes the file into a folder and returns its path.
        error: The error with which the file is refused; None if it is accepted.
        says: A regular expression that the message contains.
        use: The call under test.
    """

    build: Callable[[Path], Path]
    error: type[Keras3ConvError] | None = FileError
    says: str = ""
    use: Callable[[Path], object] = read_all


@dataclass
class Outcome:
    """The outcome of reading one file.

    Attributes:
        error: The names of the classes of the exception, from its own to `object`; empty if there was none.
        message: The message of the exception.
        yardsticks: The processor time, in units of `_yardstick`.
        growth: The growth of the process at its peak, in bytes.
        size: The size of the files in the folder of the case, in bytes on the disk.
        events: What should not have happened: files, imports, processes and connections outside of the case.
    """

    error: list[str] = field(default_factory=list)
    message: str = ""
    yardsticks: float = 0.0
    growth: int = 0
    size: int = 0
    events: list[str] = field(default_factory=list)


def outcomes(module: str) -> dict[str, Outcome]:
    """Read the files of all cases of a module in a child process; start a new child after a crash."""
    found: dict[str, Outcome] = {}
    names = list(importlib.import_module(module).CASES)
    with tempfile.TemporaryDirectory() as folder:
        while len(found) < len(names):
            done = len(found)
            lines = _run(module, Path(folder), done)
            for line in lines:
                name, outcome = json.loads(line)
                found[name] = Outcome(**outcome)
            if len(found) < len(names) and (len(found) == done or names[len(found)] not in found):
                found[names[len(found)]] = Outcome(error=["the process died"], events=lines[-1:])
    return found


def check(case: Case, outcome: Outcome) -> None:
    """Assert that a file was refused or accepted as required, without side effects."""
    assert outcome.events == [], outcome.events
    assert outcome.yardsticks < _YARDSTICKS, outcome
    assert outcome.growth < max(_GROWTH, _GROWTH_PER_BYTE * outcome.size), outcome
    if case.error is None:
        assert outcome.error == [], outcome.message
        return
    assert case.error.__name__ in outcome.error, (outcome.error[:1], outcome.message)
    assert re.search(case.says, outcome.message), outcome.message
    assert all(one.isprintable() or one == "\n" for one in outcome.message)
    assert len(outcome.message) < _LONGEST_MESSAGE


def _run(module: str, folder: Path, skip: int) -> list[str]:
    command = [sys.executable, "-m", "tests.support.guarded", module, os.fspath(folder), str(skip)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([os.fspath(ROOT), *filter(None, sys.path)])}
    result = subprocess.run(command, env=environment, cwd=ROOT, stdout=subprocess.PIPE, stderr=None, check=False)
    return [line for line in result.stdout.decode().splitlines() if line.startswith("[")]


class _Watch:
    """Records the actions of the process while it reads a file."""

    def __init__(self) -> None:
        self.folder: Path | None = None
        self.events: list[str] = []
        sys.addaudithook(self._note)

    def _note(self, event: str, arguments: tuple[object, ...]) -> None:
        if self.folder is None:
            return
        if event in _STARTS and _READER not in str(arguments):
            self.events.append(f"{event} {arguments}")
        elif event == "import" and arguments[0] not in sys.modules:
            self.events.append(f"import {arguments[0]}")
        elif event.startswith(("socket.", "ctypes.dlopen", "exec", "urllib.", "shutil.")):
            self.events.append(f"{event} {arguments}")
        elif event in ("open", "os.remove", "os.rename", "os.mkdir", "os.link", "os.symlink"):
            self._note_path(event, arguments)

    def _note_path(self, event: str, arguments: tuple[object, ...]) -> None:
        path, folder = arguments[0], os.fspath(self.folder or "")
        if not isinstance(path, str | bytes):
            return
        place = os.path.abspath(os.fsdecode(path))  # noqa: PTH100  # a link is not followed: where it is, counts
        writes = event != "open" or bool(int(str(arguments[2])) & (os.O_WRONLY | os.O_RDWR))
        if place != os.devnull and (writes or not place.startswith((folder, "/proc/self"))):
            self.events.append(f"{event} {place}")


def _main(module: str, folder: Path, skip: int) -> None:
    tests = importlib.import_module(module)
    cases: Mapping[str, Case] = tests.CASES
    _warm_up(folder)
    getattr(tests, "warm_up", lambda: None)()
    watch, yardstick = _Watch(), _yardstick()
    _limit(yardstick)
    for number, (name, case) in enumerate(cases.items()):
        if number >= skip:
            own = folder / str(number)
            own.mkdir(parents=True)
            outcome = _outcome(case, own, watch, yardstick)
            sys.stdout.write(json.dumps([name, asdict(outcome)]) + "\n")
            sys.stdout.flush()


def _warm_up(folder: Path) -> None:
    """Read a valid file of each format, so that all modules for reading are imported."""
    from tests.support import good_files

    own = folder / f"good-{os.getpid()}"
    own.mkdir()
    for build in good_files.BUILDERS.values():
        read_all(build(own))


def _yardstick() -> float:
    """Return the processor time of a fixed computation, about a tenth of a second on a processor of 2024."""
    start = time.process_time()
    for _ in range(8):
        hashlib.sha512(bytes(8 << 20))
    return time.process_time() - start


def _limit(yardstick: float) -> None:
    """Limit memory, processor time and the size of files."""
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (_status("VmData") + _MEMORY, hard))
    resource.setrlimit(
        resource.RLIMIT_CPU, (max(240, int(2400 * yardstick)), resource.getrlimit(resource.RLIMIT_CPU)[1])
    )
    resource.setrlimit(resource.RLIMIT_FSIZE, (256 << 20, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))


def _outcome(case: Case, folder: Path, watch: _Watch, yardstick: float) -> Outcome:
    outcome = Outcome()
    path = case.build(folder)
    before, here = _content(folder), Path.cwd()
    os.chdir(folder)
    start, size = time.process_time(), _reset_peak()
    watch.folder, watch.events = folder, outcome.events
    try:
        case.use(path)
    except BaseException as error:  # noqa: BLE001  # the test judges every exception
        outcome.error = [kind.__name__ for kind in type(error).__mro__]
        outcome.message = str(error)
    finally:
        watch.folder = None
    outcome.yardsticks, outcome.growth = (time.process_time() - start) / yardstick, _status("VmHWM") - size
    os.chdir(here)
    outcome.size = sum(entry.lstat().st_blocks * 512 for entry in folder.iterdir())
    if _content(folder) != before:
        outcome.events.append("the files in the folder changed")
    return outcome


def _content(folder: Path) -> dict[str, str]:
    """Return the digests of the regular files in a folder, which may be large and sparse, and the names of others."""
    return {os.fspath(path): _digest(path) for path in sorted(folder.iterdir())}


def _digest(path: Path) -> str:
    if path.is_symlink() or not path.is_file() or not os.access(path, os.R_OK):
        return "another kind"
    with path.open("rb") as file:
        return f"{path.stat().st_size} {hashlib.sha256(file.read(1 << 20)).hexdigest()}"


def _reset_peak() -> int:
    """Restart the measurement of the peak memory; return the current size in bytes."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    return _status("VmHWM")


def _status(name: str) -> int:
    """Return a size of this process in bytes; 0 on systems that do not report it."""
    status = Path("/proc/self/status")
    text = status.read_text() if status.exists() else ""
    found = re.search(rf"^{name}:\s+(\d+) kB", text, re.MULTILINE)
    return int(found[1]) << 10 if found else 0


@contextlib.contextmanager
def size_limit(size: int) -> Iterator[None]:
    """Limit the size of the files that this process writes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


if __name__ == "__main__":
    _main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
