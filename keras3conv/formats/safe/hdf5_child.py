"""Read HDF5 files in a child process, so that a crash or a hang of the HDF5 library does not affect the parent.

The command line is `python -m keras3conv.formats.safe.hdf5_child`. The process answers requests from stdin until stdin
ends. A request is a line of JSON; an answer is a line of JSON, followed by the bytes that it announces.
"""

import io
import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from keras3conv.errors import FileError, message_of
from keras3conv.formats.safe import hdf5_survey
from keras3conv.formats.safe.hdf5_dataset import Dataset
from keras3conv.formats.safe.source import Source, Window
from keras3conv.formats.safe.zip import MAX_INFLATED, Member, read_member

_MEMORY = 1 << 30
"""The bytes that the child process may allocate in addition to the values that it returns."""

_SECONDS = 4
_BYTES_PER_SECOND = 2 << 20
"""The number of bytes of the file for which a request gets one more second of processor time than `_SECONDS`."""


def main() -> None:
    """Answer the requests of the parent process, until stdin ends."""
    answers = sys.stdout.buffer
    _limit_for_ever()
    for line in sys.stdin.buffer:
        request = json.loads(line)
        content: bytes | memoryview = b""
        try:
            answer, content = _answer(request)
        except FileError as error:
            answer = {"error": type(error).__name__, "message": message_of(error)}
        answers.write(json.dumps({**answer, "bytes": len(content)}).encode() + b"\n")
        answers.write(content)
        answers.flush()


def _answer(request: Mapping[str, Any]) -> tuple[dict[str, Any], bytes | memoryview]:
    source = Source(Path(request["path"]), request["size"], tuple(request["stamp"]))
    member = Member(**request["member"]) if request["member"] else None
    size = member.size if member else source.size
    dataset = (
        Dataset(**{**request["dataset"], "shape": tuple(request["dataset"]["shape"])}) if request["dataset"] else None
    )
    needed = 4 * int(np.prod(dataset.shape, dtype=np.float64)) * 16 if dataset else 0
    _limit_request(needed + 2 * size if member and member.compressed else needed, size + needed)
    with _content(source, member) as file, hdf5_survey.opened(file, request["where"]) as opened:
        if dataset is not None:
            values = hdf5_survey.read_dataset(opened, dataset)
            return {}, values.reshape(-1).view(np.uint8).data
        tree = hdf5_survey.survey(opened, request["where"], size)
        return {
            "groups": tree.groups,
            "datasets": {path: found._asdict() for path, found in tree.datasets.items()},
            "attributes": tree.attributes,
            "ignored": tree.ignored,
        }, b""


@contextmanager
def _content(source: Source, member: Member | None) -> Iterator[Any]:
    """Yield the argument for `h5py.File`: the path of an HDF5 file, or a file object for an archive member."""
    if member is None:
        with source.unchanged() as path:
            yield path
    elif member.compressed:
        yield io.BytesIO(read_member(source, member, MAX_INFLATED))
    else:
        with source.open() as file, Window(file, member.start, member.size) as window:
            yield window


def _limit_for_ever() -> None:
    """Forbid the child process to write files and core dumps, for the rest of its life."""
    if sys.platform == "win32":  # Windows has no such limits
        return
    import resource

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))


def _limit_request(memory: int, work: int) -> None:
    """Limit the memory and the processor time of the child process for one request.

    Args:
        memory: The bytes of the values that the request returns.
        work: The bytes of the file that the request may have to process.
    """
    if sys.platform == "win32":
        return
    import resource

    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (_capped(_MEMORY + memory, hard), hard))
    used = resource.getrusage(resource.RUSAGE_SELF)
    seconds = int(used.ru_utime + used.ru_stime) + _SECONDS + work // _BYTES_PER_SECOND
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CPU, (_capped(seconds, hard), hard))


def _capped(limit: int, hard: int) -> int:
    return limit if hard < 0 else min(limit, hard)


if __name__ == "__main__":
    main()
