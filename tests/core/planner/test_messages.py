"""The messages of a plan for models that do not correspond."""

import pytest

from keras3conv.alignment.plan import Alignment
from keras3conv.alignment.staging import stage
from keras3conv.errors import AlignmentError
from keras3conv.model.views import LayerRun, LayerView, ModelView, TensorRef
from keras3conv.planner.plan import plan


def linear(path: str, inputs: int, outputs: int, place: int) -> LayerView:
    return LayerView(
        path=path,
        kinds=("torch.nn.Linear",),
        config={"in_features": inputs, "out_features": outputs, "bias": True},
        tensors=(
            TensorRef(path=f"{path}.weight", role="weight", shape=(outputs, inputs)),
            TensorRef(path=f"{path}.bias", role="bias", shape=(outputs,)),
        ),
        run=LayerRun(calls=(place,)),
    )


def dense(path: str, inputs: int, outputs: int, place: int) -> LayerView:
    return LayerView(
        path=path,
        kinds=("keras.layers.Dense",),
        config={"units": outputs, "use_bias": True},
        tensors=(
            TensorRef(path=f"{path}/kernel", role="kernel", shape=(inputs, outputs)),
            TensorRef(path=f"{path}/bias", role="bias", shape=(outputs,)),
        ),
        run=LayerRun(calls=(place,)),
    )


@pytest.fixture
def unlike() -> Alignment:
    torch = [linear("stem", 3, 4, 0), linear("body", 4, 6, 1), linear("head", 6, 2, 2)]
    keras = [dense("stem", 3, 4, 0), dense("middle", 4, 5, 1), dense("top", 5, 2, 2)]
    return plan(
        ModelView(side="torch", name="Net", layers=tuple(torch)),
        ModelView(side="keras", name="net", layers=tuple(keras)),
    )


def test_the_plan_of_different_models_contains_the_matching_layers(unlike: Alignment) -> None:
    assert [(pair.torch, pair.keras) for pair in unlike.pairs] == [("stem", "stem")]


def test_check_names_the_first_layers_that_differ(unlike: Alignment) -> None:
    with pytest.raises(AlignmentError) as caught:
        unlike.check()
    assert str(caught.value) == (
        "4 problems in the alignment of Net (torch) and net (keras); 1 pair matched\n"
        "  the first difference in call order: after stem <-> stem, torch runs body and Keras middle\n"
        "  body    (torch)  weight (6, 4), bias (6,) matched nothing; Keras has no variable of these sizes left\n"
        "  head    (torch)  weight (2, 6), bias (2,) matched nothing\n"
        "  middle  (keras)  kernel (4, 5), bias (5,) would keep its initial value; "
        "torch has no tensor of these sizes left\n"
        "  top     (keras)  kernel (5, 2), bias (2,) would keep its initial value\n"
        'Fix:  plan = plan.ignore("body", "reason").ignore("head", "reason")'
        '.ignore("middle", "reason").ignore("top", "reason")'
    )


def views(torch: int, keras: int) -> tuple[ModelView, ModelView]:
    """Return views of models with these numbers of equal layers in sequence."""
    ours = tuple(linear(f"layer.{place}", 4, 4, place) for place in range(torch))
    theirs = tuple(dense(f"dense_{place}", 4, 4, place) for place in range(keras))
    return ModelView(side="torch", name="Net", layers=ours), ModelView(side="keras", name="net", layers=theirs)


def hinted(torch: int, keras: int) -> str:
    hints = {f"layer.{place}": f"dense_{place}" for place in range(min(torch, keras))}
    with pytest.raises(AlignmentError) as caught:
        plan(*views(torch, keras), hints=hints).check()
    return str(caught.value)


def test_check_names_the_layer_after_the_end_of_the_shallower_model() -> None:
    said = "the first difference in call order: after layer.1 <-> dense_1, "
    assert f"{said}torch runs layer.2, and Keras has no layer left for it\n" in hinted(4, 2)
    assert f"{said}Keras runs dense_2, and torch has no layer left for it\n" in hinted(2, 4)


def test_a_single_unpaired_layer_needs_no_line_about_the_first_difference() -> None:
    assert "first difference" not in hinted(3, 2)


def test_two_layers_of_other_sizes_in_one_place_are_named_with_their_shapes() -> None:
    def said(torch: LayerView, keras: LayerView) -> str:
        views = (
            ModelView(side="torch", name="Net", layers=(linear("stem", 3, 16, 0), torch)),
            ModelView(side="keras", name="net", layers=(dense("stem", 3, 16, 0), keras)),
        )
        with pytest.raises(AlignmentError) as caught:
            plan(*views).check()
        return str(caught.value).splitlines()[1].strip()

    fewer = said(linear("fc", 16, 12, 1), dense("predictions", 16, 10, 1))
    assert fewer == "fc (12, 16) and predictions (16, 10) are left over: 12 outputs against 10"
    narrower = said(linear("fc", 16, 12, 1), dense("predictions", 8, 12, 1))
    assert narrower == "fc (12, 16) and predictions (8, 12) are left over: 16 inputs against 8"
    assert said(linear("fc", 16, 12, 1), dense("first", 3, 5, -1)).startswith("the first difference in call order")


def test_a_plan_with_problems_transfers_nothing(unlike: Alignment) -> None:
    with pytest.raises(AlignmentError, match="4 problems"):
        stage(unlike, unlike.torch, unlike.keras)


def test_a_gru_that_resets_before_its_product_is_named_as_one() -> None:
    def of(kind: str, path: str, shapes: dict[str, tuple[int, ...]], mark: str) -> LayerView:
        tensors = tuple(TensorRef(path=f"{path}{mark}{role}", role=role, shape=shape) for role, shape in shapes.items())
        return LayerView(path=path, kinds=(kind,), config=None, tensors=tensors, run=LayerRun())

    biases: dict[str, tuple[int, ...]] = {"bias_ih_l0": (12,), "bias_hh_l0": (12,)}
    gru = of("torch.nn.GRU", "gru", {"weight_ih_l0": (12, 3), "weight_hh_l0": (12, 4), **biases}, ".")
    for bias, is_said in (((12,), True), ((2, 12), False)):
        shapes: dict[str, tuple[int, ...]] = {"kernel": (5, 12), "recurrent_kernel": (4, 12), "bias": bias}
        views = (
            ModelView(side="torch", name="Net", layers=(gru,)),
            ModelView(side="keras", name="net", layers=(of("keras.layers.GRUCell", "gru/cell", shapes, "/"),)),
        )
        with pytest.raises(AlignmentError) as caught:
            plan(*views).check()
        assert ("the GRU of Keras has reset_after=False" in str(caught.value)) is is_said
