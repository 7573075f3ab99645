"""A remaining unpaired tensor is paired only within paired layers."""

from keras3conv.alignment.binding import RULE
from keras3conv.alignment.pair import Pair
from keras3conv.model.views import LayerView, ModelView, Side, TensorRef
from keras3conv.planner.probe.never_run import rest_pairs
from keras3conv.rules.rule import WeightMapping
from keras3conv.transforms import Axes, Same


def layer(path: str, bias: bool, between: str) -> LayerView:
    tensors = [TensorRef(path=f"{path}{between}weight", role="weight", shape=(5, 5))]
    if bias:
        tensors.append(TensorRef(path=f"{path}{between}bias", role="bias", shape=(5,)))
    return LayerView(path=path, kinds=("Own",), tensors=tuple(tensors))


def view(side: Side, biased: str) -> ModelView:
    between = "." if side == "torch" else "/"
    return ModelView(
        side=side, name="net", layers=tuple(layer(path, path == biased, between) for path in ("first", "second"))
    )


def found(torch_biased: str, keras_biased: str) -> list[tuple[str, str]]:
    weights = [
        WeightMapping(torch=(f"{path}.weight",), keras=(f"{path}/weight",), transform=Axes("o i -> i o"))
        for path in ("first", "second")
    ]
    pairs = [
        Pair(torch=made.torch[0], keras=made.keras[0], rule=RULE, weights=(made,), evidence=()) for made in weights
    ]
    rest = rest_pairs(view("torch", torch_biased), view("keras", keras_biased), pairs)
    return [(pair.torch, pair.keras) for pair in rest]


def test_a_single_bias_is_paired_with_the_bias_of_the_partner_of_its_layer() -> None:
    assert found("second", "second") == [("second.bias", "second/bias")]


def test_a_single_bias_is_not_paired_across_layers_that_do_not_correspond() -> None:
    assert found("second", "first") == []


def test_a_tensor_of_an_unpaired_layer_may_belong_to_a_paired_one() -> None:
    table, head = (
        TensorRef(path="table.weight", role="weight", shape=(7, 3)),
        TensorRef(path="head.weight", role="weight", shape=(7, 3)),
    )
    ours = ModelView(
        side="torch",
        name="net",
        layers=(
            LayerView(path="table", kinds=("Own",), tensors=(table,)),
            LayerView(path="head", kinds=("Own",), tensors=(head,)),
        ),
    )
    both = (
        TensorRef(path="table/embeddings", role="embeddings", shape=(7, 3)),
        TensorRef(path="table/reverse_embeddings", role="reverse_embeddings", shape=(3, 7)),
    )
    theirs = ModelView(side="keras", name="net", layers=(LayerView(path="table", kinds=("Own",), tensors=both),))
    mapping = WeightMapping(torch=("table.weight",), keras=("table/embeddings",), transform=Same())
    pair = Pair(torch="table", keras="table", rule=RULE, weights=(mapping,), evidence=())
    rest = list(rest_pairs(ours, theirs, [pair]))
    assert [(entry.torch, entry.keras) for entry in rest] == [("head.weight", "table/reverse_embeddings")]
