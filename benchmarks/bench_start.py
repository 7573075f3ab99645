"""Measure start-up times: the import of the package against that of numpy, and `--help`.

python -m benchmarks bench_start --check
"""

import argparse
import subprocess
import sys
import time

ROUNDS = 7

LIMITS = {"import keras3conv": 0.3, "python -m keras3conv --help": 0.5}
"""The largest times in seconds, on two idle cores."""


def seconds(*arguments: str) -> float:
    """Return the shortest time of several runs of a Python process; the longer ones were disturbed."""
    found = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)
        found.append(time.perf_counter() - start)
    return min(found)


def main() -> int:
    """Print the table; with `--check` the exit status is 1 if a limit is exceeded."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="fail where a limit is exceeded")
    options = parser.parse_args()
    found = {
        "pass": seconds("-c", "pass"),
        "import numpy": seconds("-c", "import numpy"),
        "import keras3conv": seconds("-c", "import keras3conv"),
        "python -m keras3conv --help": seconds("-m", "keras3conv", "--help"),
    }
    for name, measured in found.items():
        limit = f"  limit {LIMITS[name]:.1f} s" if name in LIMITS else ""
        print(f"{name:<28} {measured:6.3f} s{limit}")
    too_slow = [name for name, limit in LIMITS.items() if found[name] > limit]
    return 1 if options.check and too_slow else 0


if __name__ == "__main__":
    sys.exit(main())
