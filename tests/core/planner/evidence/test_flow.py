"""Positions in the call graph, on handwritten views."""

from dataclasses import replace

from keras3conv.frameworks.shared.flow import Follower
from keras3conv.model.views import LayerRun, LayerView
from keras3conv.planner.evidence.flow import LayerKey, positions


class Value:
    """An object that a `Follower` can follow."""


def layer(path: str, place: int, *follows: str, passes: tuple[str, ...] = ()) -> LayerView:
    return LayerView(path=path, run=LayerRun(calls=(place,), follows=follows, passes=passes, beside=(path,)))


def groups(*paths: str) -> dict[LayerKey, int]:
    return {(side, path): 0 for side in ("torch", "keras") for path in paths}


CHAIN = [layer("a", 0), layer("b", 1, "a"), layer("c", 2, "b")]


def test_equal_layers_of_a_chain_have_different_positions_equal_on_both_sides() -> None:
    other = [layer("b", 5, "a"), layer("c", 7, "b"), layer("a", 3)]
    found = positions(CHAIN, other, groups("a", "b", "c"))
    assert len({found["torch", path] for path in "abc"}) == 3
    assert all(found["torch", path] == found["keras", path] for path in "abc")


def test_layers_without_a_counterpart_are_skipped() -> None:
    inner = layer("x.y", 2, "a", passes=("a",))
    other = [layer("a", 0), layer("x", 1, "a", passes=("x.y",)), inner, layer("b", 3, "x"), layer("c", 4, "b")]
    found = positions(CHAIN, other, groups("a", "b", "c"))
    assert all(found["torch", path] == found["keras", path] for path in "abc")


def test_a_difference_upstream_leaves_later_positions_comparable() -> None:
    other = [layer("a", 0), layer("b", 1), layer("c", 2, "b")]
    found = positions(CHAIN, other, groups("a", "b", "c"))
    assert found["torch", "c"].after == found["keras", "c"].after
    assert found["torch", "c"].before != found["keras", "c"].before


def test_positions_are_computed_in_spite_of_a_cycle_of_shared_layers() -> None:
    loop = [layer("a", 0, "b", passes=("s",)), layer("b", 1, "a"), layer("s", 2, "s", passes=("s", "t")),
            layer("t", 3, "s", passes=("s",))]  # fmt: skip
    assert len(positions(loop, loop, groups("a", "b"))) == 4


def test_there_are_no_positions_if_the_graph_of_one_side_is_unknown() -> None:
    unknown = [replace(entry, run=replace(entry.run, follows=None)) for entry in CHAIN]
    assert positions(CHAIN, unknown, groups("a", "b", "c")) == {}
    assert positions(CHAIN, [], groups("a", "b", "c")) == {}


def test_a_long_chain_needs_no_recursion() -> None:
    long = [layer(f"l{place}", place, *([f"l{place - 1}"] if place else []), passes=(f"l{place - 1}",) if place else ())
            for place in range(5000)]  # fmt: skip
    assert len(positions(long, long, groups("l0", "l4999"))) == 4


def test_an_unseen_operation_inside_a_container_makes_the_call_graph_unknown() -> None:
    given, between, made = Value(), Value(), Value()
    follower = Follower(sees_everything=False)
    follower.enter("outer", [given])
    follower.enter("outer/inner", [given])
    follower.leave([between])
    follower.leave([made])
    assert follower.flows() is None


def test_a_container_that_returns_the_output_of_its_last_layer_is_followed() -> None:
    given, made, last = Value(), Value(), Value()
    follower = Follower(sees_everything=False)
    follower.enter("outer", [given])
    follower.enter("outer/inner", [given])
    follower.leave([made])
    follower.leave([made])
    follower.enter("next", [made])
    follower.leave([last])
    flows = follower.flows()
    assert flows is not None
    assert flows["next"].inputs == {"outer"}
    assert flows["outer"].outputs == {"outer/inner"}


def test_a_freed_object_is_not_mistaken_for_a_new_one() -> None:
    follower = Follower(sees_everything=True)
    for place in range(50):
        follower.enter(f"l{place}", [Value()])
        follower.leave([Value()])
    flows = follower.flows()
    assert flows is not None
    assert not any(flow.inputs for flow in flows.values())
