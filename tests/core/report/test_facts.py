"""A fact that is a sentence takes the whole width of the page; a short one has a column."""

import re

from keras3conv.report.report import Report
from keras3conv.report.values import Section


def test_a_long_fact_is_not_in_a_narrow_column() -> None:
    facts = {"tolerance": "1e-05", "not compared": "Conv2D: data_format; " * 10}
    section = Section(name="outputs", status="passed", claim="", summary="", facts=facts)
    page = Report(title="a", sections=(section,)).to_html()
    assert re.findall(r'<div( class="long")?><dt>(tolerance|not compared)</dt>', page) == [
        ("", "tolerance"),
        (' class="long"', "not compared"),
    ]
