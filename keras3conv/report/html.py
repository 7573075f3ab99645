"""Write a report, or the overview of a sweep over many models, as one HTML page with inline styles, plots and scripts.

The template escapes every value. In addition, the content security policy of the page allows only its own style and
script, by their digests, so that no other script runs and nothing is fetched.
"""

import hashlib
from base64 import b64encode
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from math import isfinite
from typing import TYPE_CHECKING

from keras3conv.errors import MissingExtra
from keras3conv.messages import count
from keras3conv.report import headline, markdown
from keras3conv.report.card import Card
from keras3conv.report.cells import show, visible
from keras3conv.report.grids import arrange, is_long, is_wide
from keras3conv.report.limits import LIMITS, PAGE, TITLE
from keras3conv.report.overview import ROW_STATUSES, TONES, Overview
from keras3conv.report.plot import draw
from keras3conv.report.repeats import told_once
from keras3conv.report.values import GLYPHS, Document

if TYPE_CHECKING:
    from jinja2 import Template


def write(report: Document) -> str:
    """Return a report as an HTML page.

    Raises:
        MissingExtra: jinja2 is not installed.
    """
    return _page("report.html.j2", ("report.css",), ("report.js",), report=report)


def write_overview(overview: Overview) -> str:
    """Return the overview of a sweep as an HTML page, with links to the reports of the tasks.

    Raises:
        MissingExtra: jinja2 is not installed.
    """
    return _page(
        "sweep.html.j2", ("report.css", "sweep.css"), ("report.js", "sweep.js"), overview=overview, tones=_tones()
    )


def write_card(card: Card) -> str:
    """Return the card of a converted model as Markdown with a YAML header.

    Raises:
        MissingExtra: jinja2 is not installed.
    """
    return _template("card.md.j2").render(card=card)


def _tones() -> Mapping[str, str]:
    """Return, for each status of a task, the section status whose colour its row gets: {"crashed": "failed"}."""
    return {status: TONES.get(status, "failed") for status in ROW_STATUSES}


def _page(template: str, styles: Sequence[str], scripts: Sequence[str], **values: object) -> str:
    page = _template(template)  # raises before any other work if jinja2 is missing
    from markupsafe import Markup

    style, script = ("\n".join(map(_resource, names)) for names in (styles, scripts))
    only = ("default-src 'none'", "img-src data:", f"style-src '{_digest(style)}'", f"script-src '{_digest(script)}'")
    # `Markup` marks text that is not escaped. Only files of this package are marked; everything else is escaped.
    return page.render(
        **values,
        policy="; ".join((*only, "base-uri 'none'")),
        style=Markup(style),
        script=Markup(script),
    )


@cache
def _template(name: str) -> "Template":
    try:
        from jinja2 import Environment, StrictUndefined
    except ImportError as error:
        raise MissingExtra("an HTML report", "jinja2") from error
    environment = Environment(
        autoescape=name.endswith(".html.j2"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_finalize,
    )
    environment.filters |= {
        "show": show,
        "draw": draw,
        "full": _full,
        "count": count,
        "md": markdown.escape,
        "table": markdown.table_of,
        "arrange": arrange,
        "key_facts": headline.key_facts,
        "counted": headline.counted,
        "first_cause": headline.first_cause,
        "main_plot": headline.main_plot,
        "told_once": told_once,
    }
    environment.tests |= {"wide": is_wide, "long": is_long, "certificate": headline.is_certificate}
    environment.globals |= {"glyphs": GLYPHS, "limits": LIMITS, "limits_title": TITLE, "limits_page": PAGE}
    environment.globals |= {"words": WORDS, "words_title": WORDS_TITLE}
    return environment.from_string(_resource(name))


def _finalize(value: object) -> object:
    """Return the text of a value that a template inserts, with escapes for unprintable characters.

    `Markup` (the style and the script of the page) is unchanged.
    """
    return visible(value, keep="\n") if type(value) is str else value


def _full(cell: object) -> str:
    """Return a float with all its digits, for the tooltip of its cell; empty if the cell already shows all of them."""
    return repr(cell) if isinstance(cell, float) and isfinite(cell) and cell != float(show(cell)) else ""


def _resource(name: str) -> str:
    return files("keras3conv.report").joinpath("templates", name).read_text(encoding="utf-8")


def _digest(text: str) -> str:
    return "sha256-" + b64encode(hashlib.sha256(text.encode()).digest()).decode()


WORDS_TITLE = "Words of this page"

WORDS = {
    "noise floor": "the rounding error of the torch module: its output in its own dtype minus its output in float64. A "
    "difference of the models up to 8 times as large is rounding.",
    "ratio": "a difference divided by the noise floor.",
    "probe weights": "random weights for the float64 runs, the same on both sides. All tensors differ, so that a swap "
    "shows.",
    "layer call": "one call of a layer in a run of the model; a layer that is called twice has two.",
    "in isolation": "the Keras layer alone, on the inputs that the torch layer had, so that errors of earlier layers "
    "are left out.",
    "bounds": "the values at which activations and clips change, such as the 6 of ReLU6. A bound is reached if a run "
    "had values on both sides of it.",
    "1e-10": "the largest relative difference in float64 that rounding can explain; the same for all models.",
    "skipped": "not run, for the reason that is given. It proves nothing, and is not a failure.",
    "unconfirmed": "the pairs fit by their names or shapes, but no run of the models has confirmed them.",
}
"""The meaning of each word, in a sentence or two."""
