"""The lines that a cause prints are applied to the model or the plan, and the certificate passes then."""

import pytest

from tests.support.cause_lines import Case, printed_line, report_of, sites
from tests.torch_backend.fixes.causes import between_layers, in_attention, in_images, in_layers, in_weights

CASES = [*between_layers.CASES, *in_images.CASES, *in_layers.CASES, *in_attention.CASES, *in_weights.CASES]

PLANTED_ELSEWHERE = "planted in a decoder in test_decoder.py, where a line has no place in the code of its own"

NOT_EXECUTED: dict[str, str] = {
    **dict.fromkeys((site for site in sites() if site.startswith("rotation.")), PLANTED_ELSEWHERE),
    **dict.fromkeys(("measured._table.fix", "measured._table.keras"), PLANTED_ELSEWHERE),
    **dict.fromkeys(
        ("linear._no_bias.keras", "attention._without_bias.keras", "normalization._missing.keras"),
        "a plan leaves such a weight out only if it is neutral, and then nothing differs",
    ),
    "shape._flatten.fix": "the line of linear._flattened.fix",
}
"""Places without a case, each with the reason."""

EVERY = 12
"""Only one case of this number is not slow."""


def named(place: int, case: Case) -> object:
    return pytest.param(case, id=f"{case.site}-{place}", marks=pytest.mark.slow if place % EVERY else ())


@pytest.mark.parametrize("case", [named(place, case) for place, case in enumerate(CASES)])
def test_the_printed_line_of_a_cause_makes_the_certificate_pass(case: Case) -> None:
    line = printed_line(case)
    report_of(case, line).raise_if_failed()


def test_every_line_has_a_case() -> None:
    assert {case.site for case in CASES} | set(NOT_EXECUTED) == set(sites())
    assert not {case.site for case in CASES} & set(NOT_EXECUTED)


def test_a_line_that_does_not_help_is_noticed() -> None:
    case = next(case for case in CASES if case.site == "activation._slope.fix")
    assert not report_of(case, "nn.LeakyReLU(0.25)").ok
