"""Convert a report to strict, versioned JSON in ASCII, and back. Reading a report evaluates nothing.

REPORT.md describes the format.

JSON has no NaN and no infinity. Such a number is written as an object, because a string would be read as text:
`{"float": "NaN"}`, `{"float": "Infinity"}` or `{"float": "-Infinity"}`. Unknown keys, missing keys and values of
a wrong type raise an error that contains their position.
"""

import base64
import binascii
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NoReturn, cast

from keras3conv.errors import InputError, Problem
from keras3conv.report.pictures import Answer, Picture
from keras3conv.report.values import FORMAT, Cell, Document, Plot, Section, Series, Status, Table, overall_status
from keras3conv.writing.digests import ReadFile, WrittenFile

_KNOWN = (1, 2, 3, 4, FORMAT)
"""The format numbers of reports that can be read.

Format 1 lacks pictures, format 2 the times of the stages, format 3 the status of the report, and format 4 the sources.
"""

_ADDED = {"seconds": 3, "status": 4, "sources": 5}
"""Keys of the report that the first formats lack, each with the first format that has it."""

_NONFINITE = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


def encode(report: Document) -> str:
    """Return the report as strict JSON."""
    content = {
        "format": report.format,
        "title": report.title,
        "status": report.status,
        "sections": [_section(section) for section in report.sections],
        "files": [dict(vars(file)) for file in report.files],
        "sources": [dict(vars(file)) for file in report.sources],
        "environment": dict(report.environment),
        "notes": list(report.notes),
        "seconds": {name: _scalar(float(value)) for name, value in report.seconds.items()},
    }
    return json.dumps(content, indent=1, allow_nan=False)


def decode(text: str) -> dict[str, Any]:
    """Return the fields of a report, from the JSON that `encode` wrote.

    Raises:
        InputError: The text is not JSON, has an unknown format number or unknown keys, has values of a wrong type, or
            states a status that its sections do not have.
    """
    try:
        content = json.loads(text, object_pairs_hook=_without_repeats, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise InputError(f"the text is not a report, because it is not valid JSON: {error}") from error
    if not isinstance(content, dict) or content.get("format") not in _KNOWN or isinstance(content["format"], bool):
        number = content.get("format") if isinstance(content, dict) else None
        known = ", ".join(map(str, _KNOWN))
        raise InputError(
            f"the report has the format {number!r}, but this version of keras3conv reads the formats {known}"
        )
    names = ("format", "title", "sections", "files", "environment", "notes")
    added = [name for name, format_ in _ADDED.items() if content["format"] >= format_]
    keys = _Node(content, "report").keys(*names, *added)
    sections = tuple(_read_section(node, content["format"]) for node in keys["sections"].items())
    if "status" in keys and (stated := keys["status"].text()) != (found := overall_status(sections)):
        raise InputError(f"the report states the status {stated!r}, but its sections have the status {found!r}")
    return {
        "title": keys["title"].text(),
        "sections": sections,
        "files": tuple(_read_file(node) for node in keys["files"].items()),
        "sources": tuple(_read_source(node) for node in keys["sources"].items()) if "sources" in keys else (),
        "environment": keys["environment"].texts_by_name(),
        "notes": keys["notes"].texts(),
        "seconds": keys["seconds"].reals_by_name() if "seconds" in keys else {},
        "format": FORMAT,
    }


def _section(section: Section) -> dict[str, Any]:
    return {
        **vars(section),
        "facts": dict(section.facts),
        "tables": [{**vars(table), "rows": [[_scalar(cell) for cell in row] for row in table.rows]}
                   for table in section.tables],
        "plots": [{**vars(plot), "series": [_series(series) for series in plot.series]} for plot in section.plots],
        "problems": [dict(vars(problem)) for problem in section.problems],
        "pictures": [_picture(picture) for picture in section.pictures],
    }  # fmt: skip


def _picture(picture: Picture) -> dict[str, Any]:
    answers = [{name: _scalar(value) for name, value in vars(answer).items()} for answer in picture.answers]
    return {"png": picture.base64, "caption": picture.caption, "answers": answers}


def _series(series: Series) -> dict[str, Any]:
    return {"name": series.name, "values": [_scalar(value) for value in series.values]}


def _scalar(cell: Cell) -> Cell | dict[str, str]:
    if not isinstance(cell, float) or math.isfinite(cell):
        return cell
    if math.isnan(cell):
        return {"float": "NaN"}
    return {"float": "Infinity" if cell > 0 else "-Infinity"}


def _read_section(node: "_Node", number: int) -> Section:
    names = ("name", "status", "claim", "summary", "reason", "facts", "tables", "plots", "problems")
    keys = node.keys(*names, *(("pictures",) if number > 1 else ()))
    return Section(
        name=keys["name"].text(),
        status=cast(Status, keys["status"].text()),
        claim=keys["claim"].text(),
        summary=keys["summary"].text(),
        reason=keys["reason"].text(),
        facts=keys["facts"].texts_by_name(),
        tables=tuple(_read_table(part) for part in keys["tables"].items()),
        plots=tuple(_read_plot(part) for part in keys["plots"].items()),
        problems=tuple(_read_problem(part) for part in keys["problems"].items()),
        pictures=tuple(_read_picture(part) for part in keys["pictures"].items()) if "pictures" in keys else (),
    )


def _read_table(node: "_Node") -> Table:
    keys = node.keys("columns", "rows", "title", "failed")
    rows = tuple(tuple(cell.cell() for cell in row.items()) for row in keys["rows"].items())
    return Table(
        columns=keys["columns"].texts(), rows=rows, title=keys["title"].text(), failed=keys["failed"].integers()
    )


def _read_plot(node: "_Node") -> Plot:
    keys = node.keys("title", "labels", "series", "unit", "failed")
    return Plot(
        title=keys["title"].text(),
        labels=keys["labels"].texts(),
        series=tuple(_read_series(part) for part in keys["series"].items()),
        unit=keys["unit"].text(),
        failed=keys["failed"].integers(),
    )


def _read_series(node: "_Node") -> Series:
    keys = node.keys("name", "values")
    return Series(name=keys["name"].text(), values=tuple(value.number() for value in keys["values"].items()))


def _read_problem(node: "_Node") -> Problem:
    keys = node.keys("fact", "torch", "keras", "fixes")
    return Problem(
        fact=keys["fact"].text(), torch=keys["torch"].text(), keras=keys["keras"].text(), fixes=keys["fixes"].texts()
    )


def _read_picture(node: "_Node") -> Picture:
    keys = node.keys("png", "caption", "answers")
    answers = tuple(_read_answer(part) for part in keys["answers"].items())
    return Picture(png=keys["png"].octets(), caption=keys["caption"].text(), answers=answers)


def _read_answer(node: "_Node") -> Answer:
    keys = node.keys("first", "first_score", "second", "second_score")
    return Answer(
        first=keys["first"].text(),
        first_score=keys["first_score"].real(),
        second=keys["second"].text(),
        second_score=keys["second_score"].real(),
    )


def _read_file(node: "_Node") -> WrittenFile:
    return WrittenFile(**_file_fields(node.keys("path", "size", "sha256", "md5")))


def _read_source(node: "_Node") -> ReadFile:
    keys = node.keys("path", "size", "sha256", "md5", "entry")
    return ReadFile(**_file_fields(keys), entry=keys["entry"].text())


def _file_fields(keys: Mapping[str, "_Node"]) -> dict[str, Any]:
    texts = {name: keys[name].text() for name in ("path", "sha256", "md5")}
    return {**texts, "size": keys["size"].integer()}


@dataclass(frozen=True)
class _Node:
    """A value in the JSON of a report, and its position; each method returns it as one type, or raises an error."""

    value: object
    where: str

    def keys(self, *names: str) -> dict[str, "_Node"]:
        known = self._mapping()
        if missing := [name for name in names if name not in known]:
            raise InputError(f"the entry {self.where} of the report lacks the key {missing[0]!r}")
        if unknown := [name for name in known if name not in names]:
            raise InputError(
                f"the entry {self.where} of the report has the key {unknown[0]!r}, which its format does not have"
            )
        return {name: _Node(known[name], f"{self.where}.{name}") for name in names}

    def items(self) -> list["_Node"]:
        if not isinstance(self.value, list):
            self._refuse("a list")
        return [_Node(item, f"{self.where}[{place}]") for place, item in enumerate(self.value)]

    def text(self) -> str:
        return self.value if isinstance(self.value, str) else self._refuse("a string")

    def octets(self) -> bytes:
        try:
            return base64.b64decode(self.text(), validate=True)
        except binascii.Error:
            self._refuse("bytes in base64")

    def integer(self) -> int:
        if isinstance(self.value, int) and not isinstance(self.value, bool):
            return self.value
        return self._refuse("an integer")

    def cell(self) -> Cell:
        if self.value is None or isinstance(self.value, str | int | float):
            return self.value
        return self._nonfinite()

    def number(self) -> float | None:
        if self.value is None or (isinstance(self.value, int | float) and not isinstance(self.value, bool)):
            return self.value
        return self._nonfinite()

    def real(self) -> float:
        number = self.number()
        return self._refuse("a number") if number is None else float(number)

    def texts(self) -> tuple[str, ...]:
        return tuple(item.text() for item in self.items())

    def integers(self) -> tuple[int, ...]:
        return tuple(item.integer() for item in self.items())

    def texts_by_name(self) -> dict[str, str]:
        return {name: _Node(value, f"{self.where}.{name}").text() for name, value in self._mapping().items()}

    def reals_by_name(self) -> dict[str, float]:
        return {name: _Node(value, f"{self.where}.{name}").real() for name, value in self._mapping().items()}

    def _nonfinite(self) -> float:
        word = self.keys("float")["float"].text() if isinstance(self.value, dict) else ""
        return _NONFINITE[word] if word in _NONFINITE else self._refuse("a value")

    def _mapping(self) -> Mapping[str, object]:
        return self.value if isinstance(self.value, dict) else self._refuse("an object")

    def _refuse(self, expected: str) -> NoReturn:
        raise InputError(f"the entry {self.where} of the report must be {expected}, but is {str(self.value)[:40]!r}")


def _without_repeats(pairs: list[tuple[str, object]]) -> dict[str, object]:
    content = dict(pairs)
    if len(content) != len(pairs):
        raise ValueError("a key occurs twice in one object of the JSON")
    return content


def _refuse_constant(word: str) -> NoReturn:
    raise ValueError(f"{word} is not allowed as a value in JSON")
