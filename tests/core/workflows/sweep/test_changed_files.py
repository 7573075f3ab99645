"""A second start of a sweep names the files that have changed since the first one."""

from pathlib import Path

import pytest

from tests.support.cli_runs import run
from tests.support.sweeps import CHECKPOINTS, write_checkpoint, write_files

TASKS = f"""
[sweep]
name = "two"

{CHECKPOINTS}"""


@pytest.mark.slow
def test_a_changed_file_is_named_once_for_all_tasks_that_read_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_files(tmp_path, checkpoints=2)
    Path("sweep.toml").write_text(TASKS)
    first = run("sweep", "sweep.toml", "-o", "results")
    assert "changed" not in first.stderr
    Path("fc.h5").write_bytes(Path("fc.h5").read_bytes() + b"\0")
    both = run("sweep", "sweep.toml", "-o", "results")
    assert both.stderr.splitlines()[0] == "fc.h5 has changed since the last start: the tasks that read it run again"
    write_checkpoint(min(Path("checkpoints").iterdir()), seed=9)
    one = run("sweep", "sweep.toml", "-o", "results")
    assert one.stderr.startswith("checkpoints/")
    assert "1 task has a result already" in one.stderr
    assert "changed" not in run("sweep", "sweep.toml", "-o", "results").stderr
