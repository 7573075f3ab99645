import json

import pytest

from keras3conv.report import stages as report_stages
from keras3conv.report.report import Report
from keras3conv.report.stages import Stages


def test_a_stage_is_measured_also_if_it_raises_and_in_total_if_it_repeats(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(100))
    monkeypatch.setattr(report_stages, "perf_counter", lambda: float(next(clock)))
    stages = Stages()
    with stages.stage("read"):
        pass
    first = stages.seconds["read"]
    try:
        with stages.stage("read"):
            raise KeyError
    except KeyError:
        pass
    with stages.stage("write"):
        pass
    assert (first, stages.seconds) == (1.0, {"read": 2.0, "write": 1.0})


def test_seconds_are_in_every_machine_readable_form_and_in_the_page() -> None:
    report = Report(title="t", sections=(), seconds={"read": 0.25})
    assert Report.from_json(report.to_json()).seconds == {"read": 0.25}
    assert "read 0.25 s" in report.to_markdown()
    assert "<dt>read</dt><dd>0.25 s</dd>" in report.to_html()


def test_a_report_of_format_2_has_no_seconds() -> None:
    content = json.loads(Report(title="t", sections=()).to_json())
    del content["seconds"], content["status"], content["sources"]
    assert Report.from_json(json.dumps({**content, "format": 2})).seconds == {}
