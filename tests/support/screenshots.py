"""Take pictures of HTML pages at three widths, in light and dark, to be looked at by a person.

python -m tests.support.screenshots OUT PAGE [PAGE ...]
"""

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tests.support.browser import NAMES, browsing, installed

WIDTHS = (390, 820, 1440)
SCHEMES = ("light", "dark")
HEIGHT = 1100


def pictures(pages: Sequence[Path], out: Path, program: str) -> None:
    """Write the pictures of every page into a folder, each named after the page, the width and the color scheme."""
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, browsing(program, Path(folder)) as browser:
        for page in pages:
            for width in WIDTHS:
                for scheme in SCHEMES:
                    with browser.window(width, HEIGHT):
                        browser.open(page.resolve(), scheme)
                        name = f"{page.resolve().parent.name}-{page.stem}-{width}-{scheme}.png"
                        (out / name).write_bytes(browser.picture())


def main() -> None:
    """Take the pictures that the arguments ask for."""
    program = installed()
    if program is None:
        sys.exit(f"no browser is installed: none of {', '.join(NAMES)} is on the path")
    out, *pages = map(Path, sys.argv[1:])
    pictures(pages, out, program)


if __name__ == "__main__":
    main()
