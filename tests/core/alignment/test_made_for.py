"""A plan that was made for other models is recognized, and named in a few lines."""

from keras3conv.alignment.made_for import made_for_others
from keras3conv.model.views import LayerView, ModelView, Side, TensorRef


def model(side: Side, name: str, number: int, size: int = 2) -> ModelView:
    tensors = [TensorRef(path=f"layer{place}", role="weight", shape=(size,)) for place in range(number)]
    return ModelView(side=side, name=name, layers=tuple(LayerView(path=one.path, tensors=(one,)) for one in tensors))


def test_equal_tensors_are_the_same_models() -> None:
    assert made_for_others((model("torch", "A", 9), model("torch", "B", 9))) == ()


def test_the_models_are_named_with_few_examples() -> None:
    torch, keras = (
        (model("torch", "A", 90), model("torch", "B", 1, size=3)),
        (model("keras", "a", 9), model("keras", "b", 1)),
    )
    first, *examples = made_for_others(torch, keras)
    assert (
        first.fact == "the plan was made for A (torch) and a (keras), not for B (torch) and b (keras) (98 differences)"
    )
    assert first.fixes == ("plan = k3c.align(torch, keras)",)
    assert [example.where for example in examples] == ["layer{1..89}", "layer0", "layer{1..8}"]


def test_a_side_with_the_same_tensors_is_not_named() -> None:
    same = model("torch", "A", 9), model("torch", "B", 9)
    first, _ = made_for_others(same, (model("keras", "a", 9), model("keras", "b", 1)))
    assert first.fact == "the plan was made for a (keras), not for b (keras) (8 differences)"


def test_another_model_of_the_same_name_is_told_apart() -> None:
    first, _ = made_for_others((model("torch", "A", 2), model("torch", "A", 1)))
    assert first.fact == "the plan was made for another A (torch) (1 difference)"


def test_many_differences_have_three_examples_of_each_model() -> None:
    def scattered(names: str) -> ModelView:
        tensors = [TensorRef(path=path, role="weight", shape=(2,)) for path in names]
        layers = tuple(LayerView(path=one.path, tensors=(one,)) for one in tensors)
        return ModelView(side="torch", name="S", layers=layers)

    assert len(made_for_others((scattered("abcdefgh"), scattered("")))) == 1 + 8
    assert len(made_for_others((scattered("abcdefghi"), scattered("")))) == 1 + 3
