"""Write the measured numbers into the README, from the tables that the benchmarks wrote.

`python -m docs.tools.readme` replaces what stands between the marks; a test holds the README to it.
"""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
README = ROOT / "README.md"
TEST_TIME = ROOT / "benchmarks" / "TESTS.md"

BEGIN, END = "<!-- measured: begin -->\n", "<!-- measured: end -->"
TESTS_BEGIN, TESTS_END = "<!-- tests: begin -->", "<!-- tests: end -->"
INSTALL_BEGIN, INSTALL_END = "<!-- size: begin -->", "<!-- size: end -->"

AS_IN_THE_README = "as in the README"
"""The environment of docs/versions.md that the README tells its reader to make."""


def with_numbers(text: str) -> str:
    """Return the text of the README with the current numbers."""
    text = _between(text, BEGIN, f"{table()}\n", END)
    text = _between(text, TESTS_BEGIN, time_of_tests(), TESTS_END)
    return _between(text, INSTALL_BEGIN, size(), INSTALL_END)


def table() -> str:
    """Return the table of the routes from one framework to the other."""
    ours = (
        f"{converted_to_torch()} become PyTorch ([table](benchmarks/CONVERSION.md)), {converted_to_keras()} become "
        f"Keras ([table](benchmarks/TO_KERAS.md)), {aligned()} are aligned without a hint "
        "([table](benchmarks/FIDELITY.md))"
    )
    script, onnx, hub = (
        f"benchmarks/ALTERNATIVES.md#{part}" for part in ("by-order", "through-onnx", "keras-hubs-converters")
    )
    proof = "every layer, in float64 and beside the measured rounding"
    rows = (
        ("", "weights", "architecture", "the way back", "the proof", "measured"),
        ("---",) * 6,
        ("**keras3conv**", "any two models or files", "yes, as code that trains", "the same plan", proof, ours),
        (
            "by hand",
            "a script a model",
            "days",
            "a second script",
            "a chosen tolerance",
            f"{traps()} ([table](docs/numerics.md))",
        ),
        (
            "scripts that go by order",
            "if both orders agree",
            "no",
            "a second script",
            "no",
            f"{by_order()} ([table]({script}))",
        ),
        ("through ONNX", "yes", "as a graph", "other programs", "no", f"{through_onnx()} ([table]({onnx}))"),
        (
            "keras-hub's converters",
            "into its own models",
            "no",
            "for some",
            "no",
            f"{hub_converters()} ([count]({hub}))",
        ),
    )
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def converted_to_torch() -> str:
    """Return how many models of keras.applications have a certificate as a torch module."""
    rows = _rows("benchmarks/CONVERSION.md", "model")
    return f"{sum(row[2] == 'yes' for row in rows)} of {len(rows)} models of `keras.applications`"


def converted_to_keras() -> str:
    """Return how many torch architectures are complete Keras models."""
    found = _found("benchmarks/TO_KERAS.md", r"^(\d+ of \d+) are complete")
    return f"{found[1]} PyTorch architectures"


def aligned() -> str:
    """Return how many pairs of models are aligned right."""
    found = _found("benchmarks/FIDELITY.md", r"^(\d+ of \d+) pairs fall short nowhere")
    return f"{found[1]} pairs of models"


def traps() -> str:
    """Return how many silent mistakes are measured, and how wrong the worst is."""
    rows = _rows("docs/numerics.md", "PyTorch")
    worst = max(float(row[2]) for row in rows)
    return f"{len(rows)} mistakes that raise nothing and change an output by up to {worst:.0f}"


def by_order() -> str:
    """Return how many pairs a script that goes by order places right."""
    found = _found("benchmarks/ALTERNATIVES.md", r"every tensor of (\d+ of \d+) pairs is placed right")
    return f"{found[1]} pairs placed right"


def through_onnx() -> str:
    """Return how many models arrive through ONNX, and how many can be trained as before."""
    pattern = r"Through ONNX, (\d+ of \d+) models arrive, and (\d+) of these keep every trainable number"
    found = _found("benchmarks/ALTERNATIVES.md", pattern)
    return f"{found[1]} models arrive, {found[2]} of them with all that can be trained"


def hub_converters() -> str:
    """Return the number of keras-hub's converters, and of their lines."""
    pattern = r"has (\d+) converters from transformers, one for each architecture,\nwith ([\d,]+) lines"
    found = _found("benchmarks/ALTERNATIVES.md", pattern)
    return f"{found[1]} converters with {found[2]} lines"


def size() -> str:
    """Return the size of the environment that the README makes."""
    sizes = [row[4] for row in _rows("docs/versions.md", "environment") if row[0] == AS_IN_THE_README]
    return f"{int(sizes[0].replace(',', '')) / 1000:.1f} GB"


def time_of_tests() -> str:
    """Return how long `make test` took when it was last measured."""
    if not TEST_TIME.is_file():
        return "takes a time that `python -m docs.tools.time_of_tests` measures"
    ((_, minutes, processors, _),) = _rows("benchmarks/TESTS.md", "command")
    return f"took {minutes} minutes on {processors} processors ([measured](benchmarks/TESTS.md))"


def _found(path: str, pattern: str) -> re.Match[str]:
    found = re.search(pattern, (ROOT / path).read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert found is not None, f"{path} has nothing like {pattern}"
    return found


def _rows(path: str, first: str) -> list[list[str]]:
    """Return the rows of the table whose first column has this head."""
    lines = (ROOT / path).read_text(encoding="utf-8").splitlines()
    start = next(place for place, line in enumerate(lines) if line.startswith(f"| {first} |"))
    cells = ([cell.strip() for cell in line.strip("|").split("|")] for line in lines[start + 2 :])
    rows = []
    for row in cells:
        if len(row) < 2:
            break
        rows.append(row)
    return rows


def _between(text: str, begin: str, new: str, end: str) -> str:
    before, _, rest = text.partition(begin)
    assert end in rest, f"the README has no {end}"
    return f"{before}{begin}{new}{end}{rest.partition(end)[2]}"


if __name__ == "__main__":
    README.write_text(with_numbers(README.read_text(encoding="utf-8")), encoding="utf-8")
