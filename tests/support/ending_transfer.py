"""Transfer a file in shards, and end the process in the middle, as a kill would; nothing is cleaned up.

    python -m tests.support.ending_transfer SOURCE TARGET PLAN SHARD STOP

SHARD is the size of a shard in bytes. The process ends with status 9 when tensor number STOP is about to be written.
"""

import os
import subprocess
import sys
from pathlib import Path

from keras3conv.alignment.plan import Alignment
from keras3conv.workflows.transfer import Options, transfer

ROOT = Path(__file__).resolve().parents[2]


def main() -> int:
    """Transfer the file; return 0 if the transfer ends before tensor number STOP."""
    source, target, plan = map(Path, sys.argv[1:4])
    shard, stop = map(int, sys.argv[4:])
    seen: list[str] = []

    def progress(name: str, _done: int, _total: int) -> None:
        seen.append(name)
        if len(seen) == stop:
            os._exit(9)

    options = Options(max_shard_size=shard, progress=progress, overwrite=True)
    transfer(source, target, Alignment.from_json(plan.read_text()), options)
    return 0


def end_after(stop: int, source: Path, target: Path, plan: Alignment, shard: int) -> None:
    """Transfer a file in a process that ends when tensor number `stop` is about to be written.

    Not by a fork: a fork of a process in which torch has started threads may wait for one of them for ever.
    """
    plan_file = source.with_name("plan.json")
    plan_file.write_text(plan.to_json())
    arguments = map(str, (source, target, plan_file, shard, stop))
    finished = subprocess.run(
        [sys.executable, "-m", "tests.support.ending_transfer", *arguments], cwd=ROOT, check=False
    )
    assert finished.returncode == 9, finished


if __name__ == "__main__":
    sys.exit(main())
