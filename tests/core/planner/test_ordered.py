"""Alignment by position, on lists of names and on handwritten views."""

from collections.abc import Sequence

import numpy as np
import pytest

from keras3conv.errors import AlignmentError, InputError, TransformError
from keras3conv.model.views import LayerView, ModelView, TensorRef
from keras3conv.planner.ordered.lists import Order, ordered, side_by_side
from keras3conv.planner.ordered.names import reordered
from keras3conv.planner.ordered.steps import Transfers, steps
from keras3conv.transforms import Array, Axes, Same

NAMES = ("stem_conv", "stack1_block1_conv", "stack1_block1_bn", "stack1_block1_gamma", "stack2_block1_gamma", "out")


def moved(names: Sequence[str], **tables: object) -> tuple[str, ...]:
    options = {"tails": {}, "full_names": {}, "split_positions": 2, "choose": None} | tables
    return reordered(names, **options)  # type: ignore[arg-type]


def test_a_layer_without_a_table_entry_keeps_its_position() -> None:
    assert moved(NAMES) == NAMES


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        ({"d": -2}, "adbce"),  # earlier
        ({"b": 3}, "acdbe"),  # later, to a place
        ({"a": 4}, "bcdea"),  # to the very end
        ({"a": 4, "b": 4}, "cdeab"),  # two for one place: the first one stands first
        ({"a": "d"}, "bcdae"),  # to where a later layer stands
        ({"d": "b"}, "adbce"),  # to where an earlier one stands
        ({"e": 0, "a": 4}, "ebcda"),
        ({"a": 1, "b": 2, "c": 0}, "cabde"),
        ({"c": -1, "a": 3}, "bcdae"),  # both have the places that the table says
    ],
)
def test_a_moved_layer_is_never_lost(table: dict[str, int | str], expected: str) -> None:
    assert "".join(moved("abcde", full_names=table)) == expected


def test_every_single_move_keeps_every_name() -> None:
    for name in "abcdef":
        for place in range(6):
            result = moved("abcdef", full_names={name: place})
            assert sorted(result) == [*"abcdef"]
            assert result[place] == name


def test_a_tail_entry_moves_every_layer_with_this_tail() -> None:
    names = ("s1_b1_conv", "s1_b1_gamma", "s2_b1_conv", "s2_b1_gamma")
    assert moved(names, tails={"gamma": -1}) == ("s1_b1_gamma", "s1_b1_conv", "s2_b1_gamma", "s2_b1_conv")


def test_the_table_of_a_stack_replaces_the_general_one() -> None:
    names = ("s1_b1_a", "s1_b1_b", "s2_b1_a", "s2_b1_b", "s2_b1_c")
    tails = {"b": -1, "s2": {"c": -1}}
    assert moved(names, tails=tails) == ("s1_b1_b", "s1_b1_a", "s2_b1_a", "s2_b1_c", "s2_b1_b")


def test_the_table_of_one_stack_does_not_move_another() -> None:
    names = ("s1_b1_a", "s1_b1_b", "s2_b1_a", "s2_b1_b")
    assert moved(names, tails={"s2": {"b": -1}}) == ("s1_b1_a", "s1_b1_b", "s2_b1_b", "s2_b1_a")


def test_a_name_in_a_table_of_tails_means_the_layer_of_the_same_block() -> None:
    names = ("b1_deep", "b1_c1_conv", "b1_c1_bn", "b1_short_conv", "b1_short_bn", "b2_c1_conv", "b2_short_conv")
    tails = {"short_conv": "c1_conv", "short_bn": "c1_bn"}
    assert moved(names, tails=tails, split_positions=1) == (
        "b1_deep", "b1_short_conv", "b1_short_bn", "b1_c1_conv", "b1_c1_bn", "b2_short_conv", "b2_c1_conv",
    )  # fmt: skip


def test_the_table_of_whole_names_overrides_that_of_tails() -> None:
    names = ("s_b_a", "s_b_b", "s_b_c")
    assert moved(names, tails={"c": -1}, full_names={"s_b_c": -2}) == ("s_b_c", "s_b_a", "s_b_b")


def test_each_pass_starts_from_the_order_of_the_one_before() -> None:
    names = ("a_x", "a_y_z", "b_x", "b_y_z")
    passes = {"tails": [{"y_z": -1}, {"z": 0}], "split_positions": [1, 2]}
    assert moved(names, **passes) == ("b_y_z", "a_y_z", "a_x", "b_x")
    assert moved(names, tails=[{"y_z": -1}, {}], full_names=[{}, {"b_x": 0}]) == moved(
        moved(names, tails={"y_z": -1}, split_positions=2), full_names={"b_x": 0}
    )


def test_names_of_one_letter_and_without_words_can_be_moved() -> None:
    assert moved("ab", tails={"b": -1}, split_positions=0) == ("b", "a")
    assert moved(("x", "_"), full_names={"_": 0}) == ("_", "x")


def test_nothing_is_mutated_so_a_second_call_gives_the_same() -> None:
    names = ["a", "b", "c"]
    table: dict[str, int | str] = {"c": -2, "a": 2}

    def choose(given: list[str]) -> list[str]:
        given.reverse()
        return given

    first = moved(names, full_names=table, choose=choose)
    assert moved(names, full_names=table, choose=choose) == first == ("a", "b", "c")  # c, b, a reversed
    assert (names, table) == (["a", "b", "c"], {"c": -2, "a": 2})


def test_all_wrong_targets_of_a_pass_are_in_one_message() -> None:
    with pytest.raises(InputError) as caught:
        moved("abc", full_names={"a": -1, "b": 3, "c": "d"})
    assert str(caught.value) == (
        "the Keras layers cannot be reordered\n"
        "  a  (keras)  this layer is to move to position -1, but the positions are 0 to 2\n"
        "  b  (keras)  this layer is to move to position 3, but the positions are 0 to 2\n"
        "  c  (keras)  this layer is to move to the position of 'd', but no Keras layer has that name"
    )


def test_a_match_function_that_omits_a_name_is_an_error() -> None:
    with pytest.raises(InputError) as caught:
        moved("abc", choose=lambda names: [names[0], names[0], "x"])
    assert str(caught.value) == (
        "specific_match_func must return every name exactly once\n"
        "  x  (keras)  the function that orders the names returned this name, but no Keras layer has it\n"
        "  b  (keras)  the function did not return the name of this layer\n"
        "  c  (keras)  the function did not return the name of this layer\n"
        "  a  (keras)  the function that orders the names returned this name more than once"
    )


def test_the_function_receives_the_order_of_all_passes() -> None:
    assert moved("abc", full_names={"c": 0}, choose=lambda names: names[::-1]) == ("b", "a", "c")


# Functions of arrays.


@pytest.mark.parametrize(
    ("function", "shapes", "expected"),
    [
        (lambda w: [w[0].T], [(2, 3)], [(0, Axes("a b -> b a"))]),
        (lambda w: [np.squeeze(w[0])], [(1, 4, 1, 1)], [(0, Axes("1 a 1 1 -> a"))]),
        (lambda w: [w[0][0], w[1][0]], [(1, 2), (1, 3)], [(0, Axes("1 a -> a")), (1, Axes("1 a -> a"))]),
        (lambda w: [w[1], w[0]], [(2,), (3,)], [(1, Same()), (0, Same())]),
        (lambda w: [w[0].transpose(1, 2, 0).reshape(12, 2)], [(2, 3, 4)], [(0, Axes("a b c -> (b c) a", b=3, c=4))]),
        (lambda w: [w[0].T.reshape(3, 2, 2)], [(4, 3)], [(0, Axes("(b c) a -> a b c", b=2, c=2))]),
        (lambda w: [w[0][None, :, None]], [(5,)], [(0, Axes("a -> 1 a 1"))]),
        (lambda w: [w[0].reshape(())], [(1, 1)], [(0, Axes("1 1 -> "))]),
    ],
)
def test_a_function_that_moves_axes_becomes_a_transform(
    function: object, shapes: list[tuple[int, ...]], expected: object
) -> None:
    found = steps(function, shapes)  # type: ignore[arg-type]
    assert [(source, repr(step).translate({ord(c): None for c in "abc"})) for source, step in found] == [
        (source, repr(step).translate({ord(c): None for c in "abc"}))
        for source, step in expected  # type: ignore[attr-defined]
    ]
    arrays = [np.random.default_rng(0).standard_normal(shape) for shape in shapes]
    wanted = function([array.copy() for array in arrays])  # type: ignore[operator]
    for (source, step), array in zip(found, wanted, strict=True):
        (made,) = step((arrays[source],))
        assert np.array_equal(made, array)
        assert np.array_equal(step.inverse((made,))[0], arrays[source])


@pytest.mark.parametrize(
    ("function", "fact"),
    [
        (
            lambda w: [w[0] * 2.0],
            "of shape (2, 3), is not one of the given arrays of the shapes (2, 3), (3,), ",
        ),
        (lambda w: [w[0], w[0]], "array 1 that the function returns, of shape (2, 3), is not one of"),
        (
            lambda w: [w[0]],
            "array 1, of shape (3,): return this array too, or name its tensor in skip_weights",
        ),
        (lambda w: [w[0][:1], w[1]], "array 0 that the function returns, of shape (1, 3)"),
        (lambda w: [w[0][::-1], w[1]], "array 0 that the function returns, of shape (2, 3)"),
    ],
)
def test_a_function_that_cannot_be_reversed_is_refused(function: object, fact: str) -> None:
    with pytest.raises(TransformError) as caught:
        steps(function, [(2, 3), (3,)])  # type: ignore[arg-type]
    assert fact in str(caught.value)


def test_transforms_are_used_unchanged() -> None:
    assert steps(Axes("a b -> b a"), [(2, 3)]) == [(0, Axes("a b -> b a"))]
    with pytest.raises(TransformError, match="a layer has 2 torch arrays, but 1 transforms are given"):
        steps([Same()], [(2,), (3,)])


# Whole models.


def linear(path: str, inputs: int, outputs: int) -> LayerView:
    prefix = f"{path}." if path else ""
    return LayerView(
        path=path,
        kinds=("torch.nn.Linear",),
        config={"in_features": inputs, "out_features": outputs, "bias": True},
        tensors=(
            TensorRef(path=f"{prefix}weight", role="weight", shape=(outputs, inputs)),
            TensorRef(path=f"{prefix}bias", role="bias", shape=(outputs,)),
        ),
    )


def dense(path: str, inputs: int, outputs: int) -> LayerView:
    return LayerView(
        path=path,
        kinds=("keras.layers.Dense",),
        config={"units": outputs, "use_bias": True},
        tensors=(
            TensorRef(path=f"{path}/kernel", role="kernel", shape=(inputs, outputs)),
            TensorRef(path=f"{path}/bias", role="bias", shape=(outputs,)),
        ),
    )


def own(path: str, *shapes: tuple[int, ...], kind: str = "my.Scale") -> LayerView:
    separator = "/" if kind.startswith("keras") else "."
    names = [f"{path}{separator}" if path else ""] * len(shapes)
    tensors = (
        TensorRef(path=f"{name}g{place}", role=f"g{place}", shape=shape)
        for place, (name, shape) in enumerate(zip(names, shapes, strict=True))
    )
    return LayerView(path=path, kinds=(kind,), config={}, tensors=tuple(tensors))


def torch_model(*layers: LayerView) -> ModelView:
    return ModelView(side="torch", name="Net", layers=layers)


def keras_model(*layers: LayerView) -> ModelView:
    return ModelView(side="keras", name="net", layers=layers)


def found(torch: ModelView, keras: ModelView, **order: object) -> dict[str, str]:
    plan = ordered(torch, keras, Order(**order)).check().check()  # type: ignore[arg-type]
    return {mapping.torch[0]: mapping.keras[0] for mapping in plan.mappings}


def test_layers_with_the_same_position_are_paired_and_unconfirmed() -> None:
    lists = ordered(
        torch_model(linear("a", 2, 2), linear("b", 2, 2)), keras_model(dense("z", 2, 2), dense("y", 2, 2)), Order()
    )
    assert [(pair.torch, pair.keras, pair.decided_by, pair.unconfirmed) for pair in lists.check().pairs] == [
        ("a", "z", "position", True),
        ("b", "y", "position", True),
    ]


def test_the_root_module_and_names_of_one_letter_are_paired() -> None:
    assert found(torch_model(linear("", 2, 3)), keras_model(dense("d", 2, 3))) == {
        "weight": "d/kernel",
        "bias": "d/bias",
    }
    torch = torch_model(own("", (4,)), linear("x", 2, 3))
    assert found(
        torch, keras_model(own("t", (1, 4), kind="keras.Token"), dense("d", 2, 3)), unstack_weights=["g0"]
    ) == {
        "g0": "t/g0",
        "x.weight": "d/kernel",
        "x.bias": "d/bias",
    }


def test_an_unstacked_tensor_is_an_entry_by_itself() -> None:
    block = LayerView(
        path="attn",
        kinds=("torch.nn.Linear",),
        config={"in_features": 2, "out_features": 3, "bias": True},
        tensors=(
            TensorRef(path="attn.scale", role="scale", shape=(1, 1, 5)),
            *linear("attn", 2, 3).tensors,
        ),
    )
    keras = keras_model(own("s", (5,), kind="keras.Scale"), dense("d", 2, 3))
    assert found(torch_model(block), keras, unstack_weights=["scale"]) == {
        "attn.scale": "s/g0",
        "attn.weight": "d/kernel",
        "attn.bias": "d/bias",
    }


def test_a_skipped_tensor_is_ignored_with_a_reason() -> None:
    torch = torch_model(linear("a", 2, 3), own("index", (7,)))
    plan = ordered(torch, keras_model(dense("z", 2, 3)), Order(skip_weights=["g0"])).check()
    assert [(entry.path, entry.reason) for entry in plan.ignored] == [("index.g0", "g0 is listed in skip_weights")]


def test_lists_of_different_length_are_an_error_and_never_cut_short() -> None:
    torch = torch_model(linear("a", 2, 3), linear("b", 3, 4), linear("c", 4, 5))
    with pytest.raises(AlignmentError) as caught:
        ordered(torch, keras_model(dense("z", 2, 3), dense("y", 3, 4)), Order()).check()
    assert str(caught.value) == (
        "the layers of Net (torch) and net (keras) do not have the same order\n"
        "  the torch list has 3 entries, the Keras list 2; c of the torch list would have no partner; "
        "skip_weights and unstack_weights change the torch list\n"
        "Fix:  k3c.align_ordered(module, model, dry_run=True)  # prints both lists"
    )


def test_all_misfits_are_in_one_message_with_their_positions() -> None:
    torch = torch_model(linear("a", 2, 3), linear("b", 3, 4), own("c", (5,)))
    keras = keras_model(dense("z", 2, 3), dense("y", 4, 3), own("x", (5,), (5,), kind="keras.Two"))
    with pytest.raises(AlignmentError) as caught:
        ordered(torch, keras, Order()).check()
    assert str(caught.value) == (
        "the layers of Net (torch) and net (keras) do not have the same order\n"
        "  b  <->  y\n"
        '      position 1: b.weight (4, 3) becomes (3, 4) by "o i -> i o", but y/kernel has shape (4, 3)\n'
        "  c  <->  x\n"
        "      position 2: the transforms of g0 (5,) do not give the Keras variables g0 (5,), g1 (5,): "
        "correct them in additional_transfer\n"
        "Fix:  k3c.align_ordered(module, model, dry_run=True)  # prints both lists"
    )


def test_an_additional_transfer_is_found_by_class_or_by_the_end_of_a_name() -> None:
    torch = torch_model(own("t", (2, 3)), own("u", (3, 4)))
    keras = keras_model(own("p_table", (3, 2), kind="keras.Table"), own("q_pos", (4, 3), kind="keras.Other"))
    transfers: Transfers = {"keras.Table": lambda w: [w[0].T], "_pos": Axes("a b -> b a")}
    plan = ordered(torch, keras, Order(additional_transfer=transfers)).check()
    assert [repr(mapping.transform) for mapping in plan.mappings] == ['Axes("a b -> b a")'] * 2


def test_an_additional_transfer_follows_the_rules_transform() -> None:
    turned: list[tuple[int, ...]] = []

    def turn(arrays: list[Array]) -> list[Array]:
        turned.extend(array.shape for array in arrays)
        arrays[0] = arrays[0].T
        return arrays

    torch, keras = torch_model(linear("a", 2, 3)), keras_model(dense("z", 3, 2))
    wide = LayerView(path="z", kinds=("my.Dense", "keras.layers.Dense"), config=keras.layers[0].config,
                     tensors=(TensorRef(path="z/kernel", role="kernel", shape=(3, 2)),
                              TensorRef(path="z/bias", role="bias", shape=(3,))))  # fmt: skip
    lists = ordered(torch, keras_model(wide), Order(additional_transfer={"my.Dense": turn}))
    assert turned == [(2, 3), (3,)]
    (kernel, _bias) = lists.check().check().mappings
    values = np.arange(6.0).reshape(3, 2)
    assert np.array_equal(kernel.transform((values,))[0], values)


def test_a_dry_run_shows_both_lists_side_by_side_and_raises_nothing() -> None:
    torch = torch_model(linear("a", 2, 3), linear("b", 3, 4), linear("c", 4, 5))
    lists = ordered(torch, keras_model(dense("z", 2, 3), dense("y", 4, 3)), Order())
    assert side_by_side(lists).splitlines()[:6] == [
        "Net (torch) <-> net (keras)",
        "position  torch  tensors      keras  variables",
        "-" * 62,
        "0         a      (3, 2) (3,)  z      (2, 3) (3,)",
        "1         b      (4, 3) (4,)  y      (4, 3) (3,)  does not fit",
        "2         c      (5, 4) (5,)                      does not fit",
    ]
    assert [pair.torch for pair in lists.plan.pairs] == ["a"]
    assert lists.plan.problems()


def test_a_class_without_a_rule_uses_the_transforms_of_its_counterparts_rules() -> None:
    strange = LayerView(path="a", kinds=("my.Linear",), config={"x": 1}, tensors=linear("a", 3, 3).tensors)
    (kernel, _) = ordered(torch_model(strange), keras_model(dense("z", 3, 3)), Order()).check().mappings
    assert kernel.transform == Axes("o i -> i o")


def test_two_classes_without_rules_are_paired_by_identity_transforms() -> None:
    plan = ordered(torch_model(own("a", (3, 3), (2,))), keras_model(own("z", (3, 3), (2,), kind="keras.Z")), Order())
    assert [mapping.transform for mapping in plan.check().mappings] == [Same(), Same()]


def test_square_matrices_of_two_files_are_not_paired_untransposed() -> None:
    torch = torch_model(LayerView(path="a", tensors=(TensorRef(path="a.u", role="u", shape=(3, 3)),)))
    keras = keras_model(LayerView(path="z", tensors=(TensorRef(path="z/v", role="v", shape=(3, 3)),)))
    with pytest.raises(
        AlignmentError,
        match=r"position 0: no rule turns the torch tensors u \(3, 3\) into the Keras variables v \(3, 3\)",
    ):
        ordered(torch, keras, Order()).check()
