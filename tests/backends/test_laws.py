"""Every law, for every registered rule and every example, on the backend of this process."""

from functools import cache

import pytest

from keras3conv.rule import find, rules
from tests.laws import LAWS, Law, Trial, make_trial

CASES = [(rule.name, place) for rule in rules() for place in range(len(rule.examples))]


@cache
def trial_of(name: str, place: int) -> Trial:
    rule = find(name)
    return make_trial(rule, rule.examples[place])


# Torch announces that it pads a copy where an even kernel needs more on one side; that is what is on trial.
@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")
@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__)
@pytest.mark.parametrize(("name", "place"), CASES, ids=[f"{name} {place}" for name, place in CASES])
def test_every_rule_obeys_every_law(name: str, place: int, law: Law) -> None:
    law(trial_of(name, place))
