"""A sentence in a table stands below its row if it has no room beside the other columns."""

from keras3conv.report import text
from keras3conv.report.report import Report
from keras3conv.report.values import Section, Table

WHY = "proven by float64: Keras applies the activation inside the layer; in torch it is a call after this layer"


def test_a_sentence_is_below_its_row_also_if_the_names_of_the_columns_must_be_folded() -> None:
    columns = ("torch", "field", "value", "keras", "field in keras", "value in keras", "expected value", "verdict")
    rows = (("a", "no such field", None, "a", "activation", "relu", "x in Keras", WHY),)
    table = Table(title="hyper-parameters", columns=columns, rows=rows)
    report = Report(title="a", sections=(Section(name="s", status="passed", claim="", summary="", tables=(table,)),))
    lines = text.write(report, width=80).splitlines()
    start = next(number for number, line in enumerate(lines) if "proven by float64" in line)
    assert " ".join(lines[start : start + 2]).split() == WHY.split()
    assert max(map(len, lines)) <= 80
