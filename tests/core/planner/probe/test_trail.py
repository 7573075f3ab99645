"""The record of the probe's choices: later values confirm them, and a failure backtracks to the last open one."""

import pytest

from keras3conv.model.views import LayerView, ModelView
from keras3conv.planner.probe import trail as trail_module
from keras3conv.planner.probe.option import Candidate, TensorSlice
from keras3conv.planner.probe.outcome import Ambiguous, Comparison, Confirmed, Forced
from keras3conv.planner.probe.record import TorchRun
from keras3conv.planner.probe.trail import Backtrack, Trail
from keras3conv.rules.rule import WeightMapping
from keras3conv.transforms import Same

BITS = {"q": 1, "k": 2, "v": 4}
EQUAL, OTHER = Comparison(error=0.0), Comparison(error=0.5)


def candidate(torch: str) -> Candidate:
    return Candidate(
        kind="layer",
        layers=(LayerView(path=torch),),
        keras=LayerView(path="keras"),
        rule=None,
        mappings=(WeightMapping(torch=(torch,), keras=("keras",), transform=Same()),),
        sources={torch: (TensorSlice(path=torch, stop=4),)},
    )


RUN = TorchRun(view=ModelView(side="torch", name="Net", layers=()), weights={}, calls={}, tensor_bits=BITS)
Q, K, V = (candidate(name) for name in BITS)


def opened() -> Trail:
    trail = Trail()
    trail.open_call()
    return trail


def test_a_choice_without_alternatives_is_confirmed_by_its_own_output() -> None:
    trail = opened()
    trail.choose("a", Q, EQUAL, [])
    assert trail.choices["a"].outcome == Confirmed(comparison=EQUAL)


@pytest.mark.parametrize(("dependencies", "by"), [(1, ""), (2, ""), (3, "later"), (7, "later")])
def test_an_ambiguous_choice_is_confirmed_by_a_value_that_depends_on_it_and_on_an_alternative(
    dependencies: int, by: str
) -> None:
    trail = opened()
    trail.choose("a", Q, EQUAL, [K])
    trail.confirm("later", dependencies, RUN)
    assert trail.choices["a"].confirmed_by == by


def test_a_forced_choice_is_never_confirmed_and_hides_the_tensors_before_it() -> None:
    trail = opened()
    trail.choose("a", Q, EQUAL, [K])
    trail.force("b", V, OTHER, [K], hidden_tensors=BITS["q"])
    trail.confirm("later", 7, RUN)
    assert isinstance(trail.choices["a"].outcome, Ambiguous)
    assert trail.choices["b"].outcome == Forced(comparison=OTHER, alternatives=(K,), hidden_tensors=1)
    assert trail.choices["b"].replaces_output


def test_a_tensor_is_used_for_one_layer_only() -> None:
    trail = opened()
    trail.choose("a", Q, EQUAL, [])
    assert not trail.allows("b", Q)
    assert trail.allows("b", K)


def test_backtracking_rejects_the_last_open_choice_and_forgets_all_after_it() -> None:
    trail = opened()
    trail.choose("a", Q, EQUAL, [K])
    trail.choose("b", V, EQUAL, [])
    with pytest.raises(Backtrack):
        trail.backtrack("b")
    assert not trail.choices
    assert not trail.allows("a", Q)
    assert trail.has_rejections("a")
    assert trail.allows("a", K)


def test_backtracking_without_an_open_choice_returns() -> None:
    trail = opened()
    trail.choose("a", Q, EQUAL, [])
    trail.backtrack("b")
    assert list(trail.choices) == ["a"]


def test_after_the_last_try_the_first_choices_are_restored_and_pinned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trail_module, "MOST_TRIES", 1)
    trail = opened()
    trail.choose("a", Q, EQUAL, [K])
    with pytest.raises(Backtrack):
        trail.backtrack("b")
    trail.choose("a", K, EQUAL, [V])
    with pytest.raises(Backtrack):
        trail.backtrack("b")
    assert trail.has_given_up("b")
    assert trail.allows("a", Q)
    assert not trail.allows("a", K)
    trail.choose("a", Q, EQUAL, [])
    assert trail.choices["a"].alternatives == (K,)
    trail.backtrack("c")
    assert list(trail.choices) == ["a"]
