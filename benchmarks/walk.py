"""Count the files that a reader visits when following one call of `align` for a small live pair.

    python -m benchmarks walk --steps

The reader enters each function once, when it is first called; calls from functions of other packages, generators and
nested functions count, comprehensions do not. `files` is the number of files entered, `returns` how often the reader
comes back to a file that was left before. Both are given for the whole call, and for the code around the planner: the
public function, the workflow and the frameworks. The first call of `align` is not counted: it imports and registers.
"""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
AROUND_THE_PLANNER = ("keras3conv/api.py", "keras3conv/workflows/", "keras3conv/frameworks/")


def small_pair() -> tuple[Any, Any]:
    """Return a convolutional torch module and the Keras model with the same architecture."""
    import keras
    from torch import nn

    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 6 * 6, 5))
    model = keras.Sequential(
        [
            keras.layers.Input((8, 8, 3)),
            keras.layers.Conv2D(4, 3, activation="relu"),
            keras.layers.Flatten(),
            keras.layers.Dense(5),
        ]
    )
    return module, model


def first_calls(call: Callable[[], object]) -> list[tuple[str, str]]:
    """Return the file and the name of every function of the package that a call enters, in order of first entry."""
    seen: set[CodeType] = set()
    entered: list[tuple[str, str]] = []

    def note(frame: FrameType, event: str, _: object) -> None:
        code = frame.f_code
        if event == "call" and code not in seen:
            seen.add(code)
            path = Path(code.co_filename).resolve()
            if path.is_relative_to(ROOT) and not code.co_name.startswith("<"):
                entered.append((path.relative_to(ROOT).as_posix(), code.co_qualname))

    sys.setprofile(note)
    try:
        call()
    finally:
        sys.setprofile(None)
    return [(file, name) for file, name in entered if file.startswith(("keras3conv/", "validators/"))]


def walk(files: list[str]) -> tuple[int, int]:
    """Return how many files a sequence enters, and how often it returns to one of them."""
    moves = sum(previous != file for previous, file in zip(["", *files], files, strict=False))
    return len(set(files)), moves - len(set(files))


def main() -> None:
    """Print the counts, and on request the functions in the order of the walk."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", action="store_true", help="print every function, in the order of the walk")
    arguments = parser.parse_args()

    import keras3conv as k3c

    module, model = small_pair()
    k3c.align(module, model)
    entered = first_calls(lambda: k3c.align(module, model))
    if arguments.steps:
        for file, name in entered:
            print(f"{file:<60}{name}")
    files = [file for file, _ in entered]
    around = [file for file in files if file.startswith(AROUND_THE_PLANNER)]
    for title, walked in (("all of align", files), ("around the planner", around)):
        entries, returns = walk(walked)
        print(f"{title}: {entries} files, {returns} returns")


if __name__ == "__main__":
    main()
