"""Write fragments of HTML for notebooks, in the style of the report page. Every text is escaped.

Colours are those of the notebook, which may be light or dark, so only the marks of a status have colours of their own.
"""

from collections.abc import Sequence
from html import escape

from keras3conv.report.cells import visible
from keras3conv.report.values import GLYPHS, Status

_STYLE = (
    ".keras3conv{border:1px solid #8887;border-radius:10px;padding:14px 18px;margin:4px 0;max-width:1060px;"
    "font:14px/1.5 system-ui,sans-serif;overflow-wrap:anywhere}"
    ".keras3conv .title{font:600 18px/1.3 Georgia,serif;margin:0}"
    ".keras3conv p{margin:6px 0 0}"
    ".keras3conv .pill{font:600 12px/1 system-ui,sans-serif;padding:4px 10px;border-radius:99px;"
    "white-space:nowrap;color:#fff}"
    ".keras3conv .passed{background:#17703f}.keras3conv .failed{background:#b3261e}"
    ".keras3conv .skipped{background:#8a5a00}"
    ".keras3conv .scroll{overflow-x:auto;max-height:420px}"
    ".keras3conv table{border-collapse:collapse;margin:6px 0 0;font-size:13px}"
    ".keras3conv th,.keras3conv td{text-align:left!important;padding:4px 14px 4px 0;white-space:nowrap;"
    "border-top:1px solid #8884}"
    ".keras3conv pre{overflow-x:auto;font-size:12.5px;margin:6px 0 0;max-height:420px}"
    ".keras3conv summary{cursor:pointer;margin-top:8px}"
)


def box(*parts: str) -> str:
    """Return parts of HTML together in one framed box, with the style sheet that they need."""
    return f'<div class="keras3conv"><style>{_STYLE}</style>{"".join(parts)}</div>'


def title(text: str, status: Status | None = None) -> str:
    """Return a text as an HTML title, after the symbol of a status (such as ✓) if one is given."""
    pill = f' <span class="pill {status}">{GLYPHS[status]} {status}</span>' if status else ""
    return f'<p class="title">{_text(text)}{pill}</p>'


def paragraph(text: str) -> str:
    """Return a text as an HTML paragraph."""
    return f"<p>{_text(text)}</p>"


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return an HTML table, in a box that scrolls."""
    lines = [_row("th", columns), *(_row("td", row) for row in rows)]
    return f'<div class="scroll"><table>{"".join(lines)}</table></div>'


def code(text: str) -> str:
    """Return a text as an HTML block of code or of aligned text."""
    return f"<pre>{escape(visible(text, keep=chr(10)))}</pre>"


def folded(summary: str, content: str, *, is_open: bool = False) -> str:
    """Return HTML that shows a summary; a click on it shows or hides the content.

    Args:
        summary: The summary, a text.
        content: The content, as HTML.
        is_open: Whether the content is shown at first.
    """
    return f"<details{' open' if is_open else ''}><summary>{_text(summary)}</summary>{content}</details>"


def _row(tag: str, cells: Sequence[str]) -> str:
    return f"<tr>{''.join(f'<{tag}>{_text(cell)}</{tag}>' for cell in cells)}</tr>"


def _text(text: str) -> str:
    return escape(visible(text))
