"""Tensors that are paired by hand, with and without a transform."""

import pytest

from keras3conv.alignment.plan import Alignment
from keras3conv.errors import AlignmentError
from keras3conv.model.views import LayerView, ModelView, TensorRef
from keras3conv.planner.plan import plan
from keras3conv.transforms import Axes, Chain, Concat, Skip, Split, Transform


def model(side: str, **tensors: tuple[int, ...]) -> ModelView:
    between = "." if side == "torch" else "/"
    owners: dict[str, list[TensorRef]] = {}
    for name, shape in tensors.items():
        owner, _, role = name.rpartition("__")
        path = f"{owner}{between}{role}" if owner else role
        owners.setdefault(owner, []).append(TensorRef(path=path, role=role, shape=shape))
    layers = tuple(LayerView(path=path, kinds=("Own",), tensors=tuple(own)) for path, own in owners.items())
    return ModelView(side=side, name="Net", layers=layers)  # type: ignore[arg-type]


def between(torch: tuple[int, ...], keras: tuple[int, ...]) -> Alignment:
    """Return a plan for a table that the planner does not pair automatically."""
    return plan(model("torch", pos_embed=torch), model("keras", pos__table=keras))


CASES: list[tuple[tuple[int, ...], tuple[int, ...], str | Transform, Transform]] = [
    ((1, 5, 6), (5, 6), "1 n d -> n d", Axes("1 n d -> n d")),
    ((6, 5), (5, 6), "d n -> n d", Axes("d n -> n d")),
    ((8, 3, 2, 4), (24, 8), "o i h w -> (h w i) o", Axes("o i h w -> (h w i) o", h=2, w=4, i=3)),
    ((8, 12), (2, 6, 8), "d (h w) -> h w d", Axes("d (h w) -> h w d", h=2, w=6)),
    ((7, 6), (5, 6), Skip(0, 2), Skip(0, 2)),
]


@pytest.mark.parametrize(("torch", "keras", "transform", "expected"), CASES, ids=[str(case[2]) for case in CASES])
def test_a_tensor_is_paired_with_the_transform_that_is_given(
    torch: tuple[int, ...], keras: tuple[int, ...], transform: str | Transform, expected: Transform
) -> None:
    made = between(torch, keras).pair("pos_embed", "pos/table", transform=transform).check()
    (mapping,) = made.mappings
    assert (mapping.torch, mapping.keras, mapping.transform) == (("pos_embed",), ("pos/table",), expected)
    assert made.pairs[0].decided_by == "by hand"
    assert Alignment.from_json(made.to_json()) == made


def test_the_path_of_a_layer_with_one_tensor_names_that_tensor() -> None:
    made = between((6, 5), (5, 6)).pair("pos_embed", "pos", transform="d n -> n d")
    assert made.mappings[0].keras == ("pos/table",)


def test_two_tensors_that_differ_in_axes_of_size_one_need_no_transform() -> None:
    torch, keras = model("torch", a=(1, 5, 6), b=(5, 1, 6)), model("keras", one__x=(5, 6), two__x=(5, 6))
    made = plan(torch, keras).pair("a", "two/x").pair("b", "one/x").check()
    assert {pair.torch: pair.keras for pair in made.pairs} == {"a": "two/x", "b": "one/x"}


MISTAKES: list[tuple[str, str, str | Transform | None, str]] = [
    ("pos_embed", "pos/table", None, r"\(6, 5\) and the Keras shape \(5, 6\) differ in more than axes of size 1"),
    ("pos_embed", "pos/table", "n d -> n d", r"becomes \(6, 5\) by \"n d -> n d\", but pos/table has shape \(5, 6\)"),
    ("pos_embed", "pos/table", "1 n d -> n d", "takes an array with 3 axes, but this one has 2"),
    ("pos_embed", "pos/table", "n d -> n", "d occurs on one side of the pattern only"),
    ("pos_embed", "pos/other", "n d -> d n", "pos/other .* the model has neither a layer nor a tensor of this name"),
    ("pos", "pos/table", "n d -> d n", "pos .* the model has neither a layer nor a tensor of this name"),
]


@pytest.mark.parametrize(("torch", "keras", "transform", "message"), MISTAKES, ids=[case[3] for case in MISTAKES])
def test_a_wrong_transform_or_path_is_refused_and_the_plan_is_unchanged(
    torch: str, keras: str, transform: str | Transform | None, message: str
) -> None:
    found = between((6, 5), (5, 6))
    with pytest.raises(AlignmentError, match=message):
        found.pair(torch, keras, transform=transform)
    assert found.pairs == ()


def projections() -> Alignment:
    """Return an unpaired plan: three torch layers for a packed Keras layer, and a packed torch layer for three."""
    three, packed = dict.fromkeys(("q__weight", "k__weight", "v__weight"), (4, 5)), (7, 12)
    torch = model("torch", **three, out__weight=packed)
    keras = model("keras", qkv__kernel=(5, 12), a__kernel=(7, 3), b__kernel=(7, 4), c__kernel=(7, 5))
    return Alignment(pairs=(), ignored=(), torch=torch, keras=keras)


PACK = Chain(Concat(0, (4, 4, 4)), Axes("o i -> i o"))


@pytest.mark.parametrize("names", [["q", "k", "v"], ("q.weight", "k.weight", "v.weight"), "q + k + v"], ids=type)
def test_several_torch_tensors_are_paired_with_one_of_keras(names: list[str] | str) -> None:
    made = projections().pair(names, "qkv", transform=PACK)
    (mapping,) = made.mappings
    assert mapping.torch == ("q.weight", "k.weight", "v.weight")
    assert (mapping.keras, mapping.transform) == (("qkv/kernel",), PACK)
    assert made.pairs[0].torch_layers == mapping.torch
    assert made.pairs[0].torch == "q.weight + k.weight + v.weight"
    assert made.of("k.weight") == made.pairs[0]
    assert Alignment.from_json(made.to_json()) == made


def test_one_torch_tensor_is_paired_with_several_of_keras() -> None:
    made = projections().pair("out", ["a", "b", "c/kernel"], transform=Split(1, (3, 4, 5)))
    assert made.mappings[0].keras == ("a/kernel", "b/kernel", "c/kernel")
    assert made.pairs[0].keras_layers == made.mappings[0].keras


LIST_MISTAKES: list[tuple[list[str], str | Transform | None, str]] = [
    (
        ["q", "k", "v"],
        None,
        r"no rule pairs 3 x Own with Own\nFix:  plan = plan\.pair\(\[\"q\.weight\", .*\"qkv/kernel\", transform=k3c\.",
    ),
    (["q.weight", "k.weight", "v.weight"], None, "3 torch and 1 Keras tensor can only be paired with a transform"),
    (["q", "k", "v"], "o i -> i o", "3 torch and 1 Keras tensor can only be paired with a transform"),
    (["q", "k"], PACK, r"q\.weight, k\.weight: .*"),
    (["q", "q", "v"], PACK, "q  .* occurs twice in one pair"),
    ([], PACK, r"the call names no layer of Net \(torch\)"),
    (["q", "kk", "vv"], PACK, r"(?s)kk  .*similar names are k, .*vv  .*similar names are v, "),
]


@pytest.mark.parametrize(("names", "transform", "message"), LIST_MISTAKES, ids=[case[2] for case in LIST_MISTAKES])
def test_a_list_that_does_not_fit_is_refused(names: list[str], transform: str | None, message: str) -> None:
    with pytest.raises(AlignmentError, match=message):
        projections().pair(names, "qkv", transform=transform)


def test_the_path_of_a_layer_with_several_tensors_is_refused() -> None:
    found = plan(model("torch", a__x=(2, 3), a__y=(4,)), model("keras", b__x=(3, 2), b__y=(5,)))
    with pytest.raises(AlignmentError, match=r"this layer has 2 tensors, so name one of them: a\.x, a\.y"):
        found.pair("a", "b/x", transform="i o -> o i")
