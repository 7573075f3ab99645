"""The benchmarks: each prints its help, and `--check` fails where a target is missed."""

import subprocess
import sys

import keras
import pytest
import torch
from torch import nn

from benchmarks import _paired, speed
from benchmarks.__main__ import main, scripts
from benchmarks._fidelity import Pair, measure, randomised
from benchmarks._paired import PACE, Ratio, Seconds, Work, in_seconds, not_measured, ratio, rounds_of


@pytest.mark.parametrize("name", scripts())
def test_a_benchmark_prints_its_help(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", [])  # `main` replaces it
    with pytest.raises(SystemExit) as ended:
        main([name, "--help"])
    assert ended.value.code == 0
    assert "usage: " in capsys.readouterr().out


def _ratio(processor: float, spread: float = 0.05) -> Ratio:
    return Ratio(
        group="planted",
        name="work",
        reference="other work",
        processor=processor,
        wall=processor,
        spread=spread,
        milliseconds=1.0,
        target=1.0,
    )


@pytest.mark.parametrize(
    ("processor", "spread", "status"),
    [(0.9, 0.05, 0), (1.15, 0.05, 0), (1.25, 0.05, 1), (0.5, 0.3, 0), (1.0, 0.3, 1)],
    ids=["met", "missed by a little", "missed", "met for sure though the rounds differ", "unknown, the rounds differ"],
)
def test_a_check_fails_where_a_ratio_is_behind_its_target(
    processor: float, spread: float, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(speed, "measured", lambda group, *, full: [_ratio(processor, spread)])
    monkeypatch.setattr(sys, "argv", ["speed", "--only", "start", "--check"])
    assert speed.main() == status


class Machine:
    """A clock of a machine that is three times slower in one of every three seconds, and tasks that advance it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        monkeypatch.setattr("gc.collect", lambda: 0)

    def clock(self) -> Seconds:
        return self.now, self.now

    def task(self, seconds: float) -> Work:
        def work() -> None:
            self.now += seconds * (3 if self.now % 3 < 1 else 1)

        return work


def test_tasks_that_take_turns_are_slowed_down_equally(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(monkeypatch)
    works = {"work": machine.task(0.02), "other work": machine.task(0.01)}
    found = ratio("planted", rounds_of(works, 7, machine.clock), "work", "other work")
    assert not found.is_refused
    assert abs(found.processor - 2) < 0.3
    monkeypatch.setattr(_paired, "TURNS", 1)
    monkeypatch.setattr(_paired, "FEWEST", 1)
    assert ratio("planted", rounds_of(works, 7, machine.clock), "work", "other work").is_refused


def test_a_task_whose_own_time_varies_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(monkeypatch)
    works = {"work": machine.task(1.5), "other work": machine.task(1.0)}
    assert ratio("planted", rounds_of(works, 7, machine.clock), "work", "other work").is_refused


def test_a_time_in_seconds_is_that_of_the_machine_while_nothing_slows_it_down() -> None:
    times = {"work": [(2.0, 2.0), (6.0, 6.0), (4.0, 4.0)], PACE: [(0.1, 0.1), (0.3, 0.3), (0.2, 0.2)]}
    found = in_seconds("planted", times, "work", "4 seconds", 4.0, 1.0)
    assert (found.processor, found.wall, found.spread) == pytest.approx((0.5, 0.5, 0.0))
    times["work"][1] = 18.0, 18.0
    assert in_seconds("planted", times, "work", "4 seconds", 4.0, 1.0).is_refused


def test_the_rows_of_measured_groups_replace_those_of_the_table_in_place() -> None:
    table = speed.markdown([("first", "1"), ("second", "2"), ("second", "3"), ("third", "4")])
    rows = [("second", "5"), ("new", "6")]
    expected = [["first", "1"], ("second", "5"), ["third", "4"], ("new", "6")]
    assert speed.updated(table, rows) == expected


def test_a_peer_that_is_not_installed_has_a_row_that_says_so_and_fails_no_check() -> None:
    row = not_measured("to_torch", "converted", "ONNX and onnx2torch", "onnx2torch")
    assert not row.fails
    assert speed.cells(row)[3:6] == ("", "", "")
    assert speed.cells(row)[-1] == "not measured: onnx2torch is not installed"


@pytest.mark.parametrize("failing", ["speed", "scaling", ""])
def test_the_check_of_all_benchmarks_fails_with_any_of_them(failing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(command: list[str], *, check: bool) -> subprocess.CompletedProcess[str]:
        assert command[-1] == "--check"
        return subprocess.CompletedProcess(command, int(failing in command))

    monkeypatch.setattr(subprocess, "run", run)
    assert main(["--check"]) == (1 if failing else 0)


def test_random_values_leave_frozen_parameters_and_keep_variances_positive() -> None:
    module = nn.BatchNorm1d(64)
    module.weight.requires_grad_(False)
    module.register_buffer("normalization_variance", torch.ones(64))
    randomised(module)
    assert torch.equal(module.weight, torch.ones(64))
    for name in ("running_var", "normalization_variance"):
        values = module.state_dict()[name]
        assert values.min() > 0
        assert not torch.equal(values, torch.ones(64))
    assert module.bias.abs().max() > 0


@pytest.mark.parametrize("without", [{}, {"unused": "no output of the module depends on it"}], ids=["missing", "named"])
def test_a_layer_without_a_counterpart_falls_short_unless_the_pair_names_it(without: dict[str, str]) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.dense, self.unused = nn.Linear(6, 5), nn.Linear(5, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            made: torch.Tensor = self.dense(x)
            self.unused(made)
            return made

    model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(5)])
    found = measure("planted", Pair(torch=Net().eval(), keras=model, inputs=torch.randn(2, 6), without=without))
    assert (found.right, bool(found.misses)) == ((2, False) if without else (0, True))
    assert bool(without) or "unused" in found.misses[0]
