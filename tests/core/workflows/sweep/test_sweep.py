"""Sweeps of files and of planted failures, without frameworks; every task runs in a separate process."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from keras3conv.cli.commands import app
from keras3conv.errors import FileError, InputError
from keras3conv.report.overview import Overview, Row
from keras3conv.steps import listening
from keras3conv.workflows.sweep.run import sweep
from tests.support.sweeps import CHECKPOINTS, write_checkpoint, write_files

ROOT = Path(__file__).resolve().parents[4]

EIGHT = f"""
[sweep]
name = "eight"
jobs = 2

{CHECKPOINTS}
[[task]]
name = "crash"
torch = "planted.py:crash"

[[task]]
name = "hang"
torch = "planted.py:hang"
time_limit = 3

[[task]]
name = "grow"
torch = "planted.py:grow"
memory_limit = "400 MiB"

[[task]]
name = "misfit"
torch = "misfit.safetensors"
"""


def ran(rows: list[str]) -> Callable[[Row, int, int], None]:
    return lambda row, done, total: rows.append(row.name)


def statuses(overview: Overview) -> dict[str, str]:
    return {row.name: row.status for row in overview.rows}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_files(tmp_path, checkpoints=4)
    write_checkpoint(tmp_path / "misfit.safetensors", features=4)
    (tmp_path / "sweep.toml").write_text(EIGHT)
    return tmp_path


def test_every_planted_failure_gives_a_row_and_no_result_is_lost(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    overview = sweep(folder / "sweep.toml", folder / "results")
    expected = {f"step{place}": "passed" for place in range(4)}
    expected |= {"crash": "crashed", "hang": "timed out", "grow": "out of memory", "misfit": "failed"}
    assert statuses(overview) == expected
    assert overview.tally == "8 tasks: 4 passed, 1 failed, 1 crashed, 1 timed out, 1 out of memory"
    assert overview.first_failures == {"crashed": 1, "timed out": 1, "out of memory": 1, "align": 1}
    assert not overview.ok
    by_name = {row.name: row for row in overview.rows}
    assert by_name["crash"].outcome == "the process ended with exit status 3 and without a result"
    assert by_name["hang"].outcome == "the task did not finish within its time limit of 3 seconds"
    assert "but its limit is 400 MiB" in by_name["grow"].outcome
    assert by_name["misfit"].message.startswith("AlignmentError: ")
    results = folder / "results"
    assert (results / "tasks" / "step2" / "out.safetensors").stat().st_size == by_name["step2"].files[0].size
    assert (results / by_name["step0"].report).is_file()
    lines = [json.loads(line) for line in (results / "results.jsonl").read_text().splitlines()]
    assert [line["name"] for line in lines] == list(expected)
    for name in ("index.html", "results.md"):
        text = (results / name).read_text()
        assert all(task in text for task in expected)

    # A second start has nothing to do, also on another day.
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "0")
    again: list[str] = []
    assert statuses(sweep(folder / "sweep.toml", results, progress=ran(again))) == expected
    assert again == []

    # A changed file, a higher limit and new options are run again; nothing else is.
    write_checkpoint(folder / "checkpoints" / "step3.safetensors", seed=33)
    text = (folder / "sweep.toml").read_text().replace("400 MiB", "500 MiB")
    text = text.replace('torch = "misfit.safetensors"', 'torch = "misfit.safetensors"\ncast = true')
    (folder / "sweep.toml").write_text(text)
    assert statuses(sweep(folder / "sweep.toml", results, progress=ran(again))) == expected
    assert sorted(again) == ["grow", "misfit", "step3"]


def test_sweep_uses_the_common_exit_codes_and_prints_json_on_stdout(folder: Path) -> None:
    def run(text: str, out: str) -> Result:
        (folder / "some.toml").write_text(text)
        arguments = ["sweep", str(folder / "some.toml"), "-o", str(folder / out), "--json"]
        return CliRunner().invoke(app, arguments)

    good = '[[task]]\nname = "good"\ntorch = "net.safetensors"\nkeras = "fc.h5"\ndo = ["align"]\n'
    bad = '[[task]]\nname = "bad"\ntorch = "misfit.safetensors"\nkeras = "fc.h5"\ndo = ["align"]\n'
    passed = run(good, "one")
    assert (passed.exit_code, json.loads(passed.stdout)["totals"]) == (0, {"passed": 1})
    log = folder / "one" / "tasks" / ".good.part" / "log.txt"
    assert passed.stderr.splitlines()[0] == f"running good, log {log}"
    assert "1/1  ✓ passed" in passed.stderr
    failed = run(good + bad, "one")
    assert (failed.exit_code, json.loads(failed.stdout)["totals"]) == (1, {"passed": 1, "failed": 1})
    assert failed.stderr.splitlines()[0] == "1 task has a result already"
    again = run(good + bad, "one")
    assert (
        again.stderr.splitlines()[0] == "2 tasks have a result already, of which 1 did not pass: --retry runs it again"
    )
    for name, files in {"bad": ["task.json", "log.txt"], "gone": ["log.txt"], "waiting": []}.items():  # as after a kill
        (folder / "one" / "tasks" / f".{name}.part").mkdir()
        for file in files:
            (folder / "one" / "tasks" / f".{name}.part" / file).touch()
    # The result of a task is told before the next one starts.
    told = run("[sweep]\njobs = 1\n" + good + good.replace('"good"', '"more"'), "two").stderr.splitlines()
    places = [place for place, line in enumerate(told) for part in ("1/2", "running more") if part in line]
    assert "1/2" in told[places[0]]
    assert "running more" in told[places[1]]
    resumed = run(good + bad + good.replace('"good"', '"more"'), "one").stderr.splitlines()[0]
    assert resumed.endswith("; an earlier start was killed while it ran bad, gone: tasks without a result start again")
    assert [*(folder / "one" / "tasks").glob(".*.part")] == []
    refused = run(good + "oops = 1\n", "two")
    assert (refused.exit_code, refused.stdout) == (2, "")
    assert "some.toml: 1 problem, so nothing was run line 6 oops is not a key" in " ".join(refused.stderr.split())


def test_tasks_that_did_not_pass_are_run_again_on_request(folder: Path) -> None:
    tasks = [
        {"name": "good", "torch": str(folder / "net.safetensors"), "keras": str(folder / "fc.h5"), "do": ["align"]},
        {"name": "bad", "torch": str(folder / "misfit.safetensors"), "keras": str(folder / "fc.h5"), "do": ["align"]},
    ]
    sweep(tasks, folder / "results")
    again: list[str] = []
    sweep(tasks, folder / "results", retry=True, progress=ran(again))
    assert again == ["bad"]


def test_the_output_lists_tasks_that_got_worse_first(folder: Path) -> None:
    task = {"name": "net", "torch": str(folder / "net.safetensors"), "keras": str(folder / "fc.h5"), "do": ["align"]}
    former = {**task, "name": "former"}
    sweep([task, former], folder / "before")
    write_checkpoint(folder / "net.safetensors", features=4)
    overview = sweep([task, {**task, "name": "added", "torch": str(folder / "planted.py:raises")}], folder / "after",
                     compare=folder / "before")  # fmt: skip
    assert [(one.name, one.change) for one in overview.differences] == [
        ("net", "worse"),
        ("added", "new"),
        ("former", "gone"),
    ]
    page = (folder / "after" / "index.html").read_text()
    assert 0 < page.index("Worse than before") < page.index('class="verdict')
    markdown = (folder / "after" / "results.md").read_text()
    assert 0 < markdown.index("Worse than before: 1 task") < markdown.index("## All tasks")
    added = next(row for row in overview.rows if row.name == "added")
    assert added.status == "unusable"
    assert "this model is broken" in added.message


def test_the_results_of_another_sweep_are_never_overwritten(folder: Path) -> None:
    task = {"name": "net", "torch": str(folder / "net.safetensors"), "keras": str(folder / "fc.h5"), "do": ["align"]}
    sweep([task], folder / "results", name="mine")
    with pytest.raises(FileError, match=r"has the results of another sweep, 'mine' of a program, which are kept"):
        sweep([task], folder / "results", name="other")
    with pytest.raises(FileError, match=r"has the results of another sweep"):
        sweep(folder / "sweep.toml", folder / "results")
    with pytest.raises(FileError, match=r"contains files that are not results of a sweep"):
        sweep([task], folder)
    with pytest.raises(InputError, match=r"has no results of a sweep"):
        sweep([task], folder / "new", compare=folder)
    assert not (folder / "new").exists()


def test_rows_of_tasks_that_a_sweep_no_longer_has_are_kept_aside(folder: Path) -> None:
    task = {"name": "net", "torch": str(folder / "net.safetensors"), "keras": str(folder / "fc.h5"), "do": ["align"]}
    sweep([task, {**task, "name": "former"}], folder / "results")
    overview = sweep([task], folder / "results")
    assert [row.name for row in overview.rows] == ["net"]
    assert [json.loads(line)["name"] for line in (folder / "results" / "former.jsonl").read_text().splitlines()] == [
        "former"
    ]


BLOCKED = """
import os
import pathlib
import time


def make():
    here = pathlib.Path(__file__).parent
    (here / "pid.tmp").write_text(str(os.getpid()))
    (here / "pid.tmp").rename(here / "pid")
    while True:
        time.sleep(60)
"""


def start(folder: Path) -> "subprocess.Popen[str]":
    """Start a sweep whose second task of three never ends, and wait until that task runs."""
    (folder / "blocked.py").write_text(BLOCKED)
    tasks = [f'[[task]]\nname = "t{place}"\ntorch = "net.safetensors"\n' for place in (0, 2)]
    tasks.insert(1, '[[task]]\nname = "t1"\ntorch = "blocked.py:make"\n')
    defaults = '[sweep]\njobs = 1\n[defaults]\nkeras = "fc.h5"\ndo = ["align"]\n'
    (folder / "blocked.toml").write_text(defaults + "".join(tasks))
    command = [sys.executable, "-m", "keras3conv", "sweep", "blocked.toml", "-o", "results"]
    heard = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may ignore it in the background
    try:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
    finally:
        signal.signal(signal.SIGINT, heard)
    while not (folder / "pid").exists():
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.05)
    return process


def wait_for_the_end_of(pid: int) -> None:
    """Wait until a process has ended or is a zombie, whose parent has not waited for it."""
    stat = Path(f"/proc/{pid}/stat")
    while stat.exists():
        try:
            if stat.read_text().rpartition(")")[2].split()[0] == "Z":
                return
        except (FileNotFoundError, ProcessLookupError):
            return
        time.sleep(0.05)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux kills a process together with its parent")
def test_a_killed_sweep_leaves_no_process_and_repeats_nothing_that_was_done(folder: Path) -> None:
    process = start(folder)
    process.kill()
    process.communicate()
    wait_for_the_end_of(int((folder / "pid").read_text()))
    results = folder / "results" / "results.jsonl"
    assert [json.loads(line)["name"] for line in results.read_text().splitlines()] == ["t0"]
    with results.open("a") as file:
        file.write('{"name": "t1", "sta')  # the kill could also have cut a line short
    (folder / "blocked.py").write_text("def make():\n    return 1\n")
    again: list[str] = []
    overview = sweep(folder / "blocked.toml", folder / "results", progress=ran(again))
    assert again == ["t1", "t2"]
    assert statuses(overview) == {"t0": "passed", "t1": "unusable", "t2": "passed"}


@pytest.mark.parametrize("signal_number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_sweep_leaves_a_readable_table(folder: Path, signal_number: signal.Signals) -> None:
    process = start(folder)
    process.send_signal(signal_number)
    output, _ = process.communicate()
    assert process.returncode == 130, output
    assert output.splitlines()[-1] == "Interrupted: 1 of 3 tasks finished; start the same command again to continue"
    wait_for_the_end_of(int((folder / "pid").read_text()))
    table = (folder / "results" / "results.md").read_text()
    assert "3 tasks: 1 passed, 2 not run" in table
    assert sorted(path.name for path in (folder / "results" / "tasks").iterdir()) == ["t0"]


def test_the_file_of_the_rows_exists_before_the_first_task_ends(folder: Path) -> None:
    task = {"name": "a", "torch": str(folder / "net.safetensors"), "keras": str(folder / "fc.h5"), "do": ["align"]}
    found: list[str] = []
    rows = folder / "results" / "results.jsonl"
    sweep([task], folder / "results", started=lambda name, log: found.append(rows.read_text()))
    assert found == [""]


def test_an_interrupt_during_the_checks_says_how_to_go_on(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(placed: object) -> list[object]:
        raise KeyboardInterrupt

    monkeypatch.setattr("keras3conv.workflows.sweep.run.faults_of_files", interrupt)
    finished = CliRunner().invoke(app, ["sweep", str(folder / "sweep.toml"), "-o", str(folder / "results")])
    assert finished.exit_code == 130
    assert finished.stderr == "Interrupted: start the same command again to continue\n"


def test_the_tasks_that_run_are_told_after_the_checks(folder: Path) -> None:
    task = {"torch": str(folder / "net.safetensors"), "keras": str(folder / "fc.h5"), "do": ["align"]}
    told: list[str] = []
    with listening(lambda name, seconds: told.append(name) if seconds is None else None):
        sweep([{**task, "name": "first"}, {**task, "name": "second"}], folder / "results", jobs=1)
    assert told[0] == "checking the file"
    running = [name for name in told if name.startswith("running: ")]
    assert running.index("running: first") < running.index("running: second")


def test_two_processes_do_not_write_into_the_same_folder(folder: Path) -> None:
    process = start(folder)
    try:
        with pytest.raises(FileError, match="another process writes into"):
            sweep(folder / "blocked.toml", folder / "results")
    finally:
        process.terminate()
        process.communicate()


def test_code_that_a_factory_imports_is_part_of_the_task(folder: Path) -> None:
    (folder / "helper_of_the_net.py").write_text("WHERE = 'net.safetensors'\n")
    (folder / "net_with_helper.py").write_text(
        "import helper_of_the_net\ndef make():\n    return helper_of_the_net.WHERE\n"
    )
    (folder / "own.toml").write_text('[[task]]\nname = "own"\ntorch = "net_with_helper.py:make"\nkeras = "fc.h5"\n')
    again: list[str] = []
    for _ in range(2):
        sweep(folder / "own.toml", folder / "results", progress=ran(again))
    assert again == ["own"]
    (folder / "helper_of_the_net.py").write_text("WHERE = 'other.safetensors'\n")
    sweep(folder / "own.toml", folder / "results", progress=ran(again))
    assert again == ["own", "own"]
