"""Check the built site: no page loads anything from the network, and every page has a title and text.

`make docs` runs `python -m docs.tools.check build/site` after the build.
"""

import sys
from html.parser import HTMLParser
from pathlib import Path

_LOADS = {"script": "src", "link": "href", "img": "src", "iframe": "src", "source": "src", "video": "src"}
_NO_LOADS = {"canonical", "alternate", "next", "prev", "license", "author", "edit"}
"""Relations of a `link` element that a browser does not fetch."""


class _Page(HTMLParser):
    """Collects the addresses on other hosts that a browser would fetch for a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.fetched: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note an address on another host that this element loads."""
        attributes = {name: value or "" for name, value in attrs}
        if tag == "link" and set(attributes.get("rel", "").split()) & _NO_LOADS:
            return
        address = attributes.get(_LOADS.get(tag, ""), "")
        if address.startswith(("http:", "https:", "//")):
            self.fetched.append(f"<{tag}> {address}")


def faults(site: Path) -> list[str]:
    """Return the faults of a built site, one line each."""
    pages = sorted(site.rglob("*.html"))
    found = [] if pages else [f"{site} has no pages"]
    for page in pages:
        found += [f"{page.relative_to(site)} loads {address}" for address in _Page(page.read_text("utf-8")).fetched]
    for style in sorted(site.rglob("*.css")):
        text = style.read_text("utf-8")
        found += [
            f"{style.relative_to(site)} loads a file of another host" for sign in ("url(http", "url(//") if sign in text
        ]
    if not (site / "search" / "search_index.js").is_file():
        found.append("the search has no index that works without a server")
    return found


if __name__ == "__main__":
    wrong = faults(Path(sys.argv[1]))
    sys.stdout.write("\n".join([*wrong, ""]) if wrong else "The site loads nothing from the network.\n")
    sys.exit(bool(wrong))
