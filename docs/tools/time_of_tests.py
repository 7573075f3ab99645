"""Measure how long `make test` takes, and write it into benchmarks/TESTS.md and into the README.

`python -m docs.tools.time_of_tests` on a machine that does nothing else; the tests must pass.
"""

import os
import subprocess
import time
from datetime import UTC, datetime

from docs.tools.readme import README, ROOT, TEST_TIME, with_numbers

TEXT = """\
# The time of the tests

`python -m docs.tools.time_of_tests` wrote this page.

| command | minutes | processors | date |
| --- | ---: | ---: | --- |
| `make test` | {minutes:.0f} | {processors} | {date:%Y-%m-%d} |
"""


def main() -> None:
    """Run the tests once and write the two files."""
    start = time.monotonic()
    subprocess.run(["make", "test"], cwd=ROOT, check=True)
    minutes = (time.monotonic() - start) / 60
    text = TEXT.format(minutes=minutes, processors=os.cpu_count(), date=datetime.now(UTC))
    TEST_TIME.write_text(text, encoding="utf-8")
    README.write_text(with_numbers(README.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
