"""Hooks of the documentation site: add pages from other folders, and resolve links that leave docs/.

The pages of docs/ are read on two surfaces: as files beside the code, where `../keras3conv/api.py` is a link, and as a
site, which has no code. On the site a link to a file that is a page leads to the page, any other becomes plain text.
"""

import posixpath
import re
import sys
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from docs.tools import command_line, notebooks  # noqa: E402 - mkdocs loads this file without its folder

TAKEN = {
    "REPORT.md": "reference/report-json.md",
    "CONTRIBUTING.md": "project/contributing.md",
    "CHANGELOG.md": "project/changes.md",
    "benchmarks/FIDELITY.md": "project/fidelity.md",
    "benchmarks/CONVERSION.md": "project/conversion.md",
    "benchmarks/TO_KERAS.md": "project/to-keras.md",
    "benchmarks/TO_KERAS_SPEED.md": "project/to-keras-speed.md",
    "benchmarks/ALTERNATIVES.md": "project/alternatives.md",
}
"""Files outside docs/ that are pages of the site, with their paths in the site."""

_FOREIGN_WORKER = "https://unpkg.com/iframe-worker/shim"

_LINK = re.compile(r"(?<!!)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^)\s#]+)(#[^)\s]*)?\)")


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Add the pages that are not in docs/."""
    for path, page in TAKEN.items():
        files.append(File.generated(config, page, content=(ROOT / path).read_text(encoding="utf-8")))
    files.append(File.generated(config, "reference/command-line.md", content=command_line.page()))
    for notebook in sorted((ROOT / "docs" / "notebooks").glob("*.ipynb")):
        executed = notebooks.page(notebook)
        files.append(File.generated(config, f"notebooks/{notebook.stem}.md", content=executed))
    return files


def on_page_markdown(markdown: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Resolve the links of a page to other pages; a link to a file that is not a page becomes plain text."""
    source = page.file.src_uri
    taken_from = next((path for path, target in TAKEN.items() if target == source), None)
    here = posixpath.dirname(taken_from or f"docs/{source}")

    def replaced(match: re.Match[str]) -> str:
        text, link, anchor = match[1], match[2], match[3] or ""
        if "://" in link or link.startswith("mailto:"):
            return match[0]
        target = posixpath.normpath(posixpath.join(here, link))
        inside = TAKEN.get(target, target.removeprefix("docs/") if target.startswith("docs/") else "")
        if not inside or (files.get_file_from_path(inside) is None and target in TAKEN):
            return text
        return f"[{text}]({posixpath.relpath(inside, posixpath.dirname(source) or '.')}{anchor})"

    return outside_code(markdown, lambda part: _LINK.sub(replaced, part))


def on_post_build(*, config: MkDocsConfig) -> None:
    """Load the worker of the search from the site: the theme would fetch it from another host."""
    site = Path(config.site_dir)
    for path in site.rglob("*.html"):
        own = posixpath.relpath("assets/worker.js", path.relative_to(site).parent.as_posix())
        text = path.read_text(encoding="utf-8")
        path.write_text(text.replace(_FOREIGN_WORKER, own), encoding="utf-8")


def outside_code(markdown: str, change: Any) -> str:
    """Change the text of a page, but not its fenced code."""
    parts = re.split(r"(^```.*?^```$)", markdown, flags=re.DOTALL | re.MULTILINE)
    return "".join(part if part.startswith("```") else change(part) for part in parts)
