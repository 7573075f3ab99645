"""The planner on handwritten views: no framework, only names, shapes and orders."""

from dataclasses import replace

import pytest

from keras3conv.errors import AlignmentError, InputError, UnsupportedLayerError
from keras3conv.model.views import LayerRun, LayerView, ModelView, TensorRef
from keras3conv.planner.evidence import names
from keras3conv.planner.plan import plan
from keras3conv.transforms import Axes


def linear(path: str, inputs: int, outputs: int, place: int | None = None, *, known: bool = True) -> LayerView:
    return LayerView(
        path=path,
        kinds=("torch.nn.Linear",) if known else (),
        config={"in_features": inputs, "out_features": outputs, "bias": True} if known else None,
        tensors=(
            TensorRef(path=f"{path}.weight", role="weight", shape=(outputs, inputs)),
            TensorRef(path=f"{path}.bias", role="bias", shape=(outputs,)),
        ),
        run=LayerRun(calls=None if place is None else (place,)),
    )


def dense(path: str, inputs: int, outputs: int, place: int | None = None, *, known: bool = True) -> LayerView:
    return LayerView(
        path=path,
        kinds=("keras.layers.Dense",) if known else (),
        config={"units": outputs, "use_bias": True} if known else None,
        tensors=(
            TensorRef(path=f"{path}/kernel", role="kernel", shape=(inputs, outputs)),
            TensorRef(path=f"{path}/bias", role="bias", shape=(outputs,)),
        ),
        run=LayerRun(calls=None if place is None else (place,)),
    )


def torch_model(*layers: LayerView) -> ModelView:
    return ModelView(side="torch", name="Net", layers=layers)


def keras_model(*layers: LayerView) -> ModelView:
    return ModelView(side="keras", name="net", layers=layers)


def found(torch: ModelView, keras: ModelView, hints: object = None) -> dict[str, tuple[str, str]]:
    return {pair.torch: (pair.keras, pair.decided_by) for pair in plan(torch, keras, hints).pairs}  # type: ignore[arg-type]


def test_layers_with_a_unique_shape_are_paired() -> None:
    assert found(torch_model(linear("a", 3, 5)), keras_model(dense("z", 3, 5))) == {"a": ("z", "shape")}


def test_call_order_decides_among_equal_shapes_whatever_the_definition_order() -> None:
    torch = torch_model(linear("last", 4, 4, 9), linear("first", 4, 4, 1), linear("middle", 4, 4, 5))
    keras = keras_model(dense("d2", 4, 4, 20), dense("d0", 4, 4, 2), dense("d1", 4, 4, 7))
    assert found(torch, keras) == {
        "first": ("d0", "call order"),
        "middle": ("d1", "call order"),
        "last": ("d2", "call order"),
    }


def test_query_layers_are_paired_by_name_whatever_the_call_order() -> None:
    torch = torch_model(linear("attn.q_proj", 4, 4, 1), linear("attn.k_proj", 4, 4, 2), linear("attn.v_proj", 4, 4, 3))
    keras = keras_model(
        dense("attention/query", 4, 4, 1), dense("attention/value", 4, 4, 2), dense("attention/key", 4, 4, 3)
    )
    assert {torch: keras for torch, (keras, _) in found(torch, keras).items()} == {
        "attn.q_proj": "attention/query",
        "attn.k_proj": "attention/key",
        "attn.v_proj": "attention/value",
    }


def test_without_a_run_equal_names_decide_and_the_rest_is_unconfirmed() -> None:
    torch = torch_model(linear("x", 4, 4), linear("block.1", 4, 4), linear("y", 4, 4))
    keras = keras_model(dense("p", 4, 4), dense("q", 4, 4), dense("block_1", 4, 4))
    made = plan(torch, keras)
    assert {pair.torch: (pair.keras, pair.decided_by) for pair in made.pairs} == {
        "block.1": ("block_1", "name"),
        "x": ("p", "definition order"),
        "y": ("q", "definition order"),
    }
    assert [pair.torch for pair in made.pairs if pair.unconfirmed] == ["x", "y"]
    assert made.pairs[0].candidates == ("q",)


def test_files_without_classes_are_aligned_by_roles_and_shapes() -> None:
    torch = torch_model(linear("fc", 3, 5, known=False))
    keras = keras_model(dense("head", 3, 5, known=False))
    assert found(torch, keras) == {"fc": ("head", "shape")}


def test_a_layer_without_a_counterpart_is_reported_and_never_guessed() -> None:
    torch = torch_model(linear("a", 3, 5, 0), linear("b", 5, 3, 1))
    keras = keras_model(dense("z", 3, 5, 0))
    made = plan(torch, keras)
    assert [pair.torch for pair in made.pairs] == ["a"]
    with pytest.raises(
        AlignmentError, match=r"1 problem in the alignment of Net \(torch\) and net \(keras\)"
    ) as caught:
        made.check()
    assert "b  (torch)  weight (3, 5), bias (3,) matched nothing" in str(caught.value)
    assert str(caught.value).endswith('Fix:  plan = plan.ignore("b", "reason")')


def test_two_layers_that_fit_one_are_not_paired() -> None:
    torch = torch_model(linear("a", 4, 4, 0), linear("b", 4, 4, 1))
    keras = keras_model(dense("z", 4, 4, 0))
    assert found(torch, keras) == {}


def test_a_layer_that_never_runs_is_not_paired_with_one_that_does() -> None:
    unused = linear("unused", 4, 4)
    torch = torch_model(
        LayerView(
            path="unused", kinds=unused.kinds, config=unused.config, tensors=unused.tensors, run=LayerRun(calls=())
        ),
        linear("used", 4, 4, 3),
    )
    spare = dense("spare", 4, 4)
    keras = keras_model(
        dense("z", 4, 4, 0),
        LayerView(path="spare", kinds=spare.kinds, config=spare.config, tensors=spare.tensors, run=LayerRun(calls=())),
    )
    assert {torch: keras for torch, (keras, _) in found(torch, keras).items()} == {"used": "z", "unused": "spare"}


@pytest.mark.parametrize(
    "hints",
    [{"a": "q"}, [(r"a", r"q")], lambda path: "q" if path == "a" else None],
    ids=["dict", "regex", "callable"],
)
def test_hints_override_all_other_evidence(hints: object) -> None:
    torch = torch_model(linear("a", 4, 4, 0), linear("b", 4, 4, 1))
    keras = keras_model(dense("p", 4, 4, 0), dense("q", 4, 4, 1))
    assert found(torch, keras, hints) == {"a": ("q", "hint"), "b": ("p", "shape")}


def test_unknown_names_in_hints_are_one_error_with_the_nearest_names() -> None:
    torch = torch_model(linear("classifier", 4, 4), linear("stem", 4, 4))
    keras = keras_model(dense("z", 4, 4), dense("first", 4, 4))
    with pytest.raises(AlignmentError) as caught:
        plan(torch, keras, {"classifer": "z", "stem": "frist", "stem + sten": "z"})
    assert str(caught.value) == (
        "cannot pair layers of Net (torch) with layers of net (keras)\n"
        "  classifer  (torch)  the model has neither a layer nor a tensor of this name; similar names are "
        "classifier, stem\n"
        "  frist      (keras)  the model has neither a layer nor a tensor of this name; similar names are first, z\n"
        "  sten       (torch)  the model has neither a layer nor a tensor of this name; similar names are stem, "
        "classifier"
    )


SEPARABLE = {"depthwise_kernel": (3, 3, 4, 1), "pointwise_kernel": (1, 1, 4, 6), "bias": (6,)}
CONVOLUTIONS: dict[str, dict[str, tuple[int, ...]]] = {
    "dw": {"weight": (4, 1, 3, 3)},
    "pw": {"weight": (6, 4, 1, 1), "bias": (6,)},
}


@pytest.mark.parametrize("config", [None, {"filters": 6, "kernel_size": (3, 3)}], ids=["weights only", "with config"])
def test_a_hint_joins_two_layers_of_a_checkpoint_that_are_one_keras_layer(config: dict[str, object] | None) -> None:
    torch = torch_model(
        *(LayerView(path=path, tensors=tensors(f"{path}.", shapes)) for path, shapes in CONVOLUTIONS.items())
    )
    kinds = ("keras.layers.SeparableConv2D",)
    keras = keras_model(LayerView(path="sep", kinds=kinds, config=config, tensors=tensors("sep/", SEPARABLE)))
    (pair,) = plan(torch, keras, {"dw + pw": "sep"}).check().pairs
    assert (pair.torch_layers, pair.keras_layers) == (("dw", "pw"), ("sep",))
    assert [mapping.torch for mapping in pair.weights] == [("dw.weight",), ("pw.weight",), ("pw.bias",)]


def tensors(prefix: str, shapes: dict[str, tuple[int, ...]]) -> tuple[TensorRef, ...]:
    return tuple(TensorRef(path=prefix + role, role=role, shape=shape) for role, shape in shapes.items())


def test_a_hint_pairs_two_tensors() -> None:
    torch = torch_model(parameter("a", (8,)), parameter("b", (8,)))
    keras = keras_model(variable("x/first", (8,)), variable("x/second", (8,)))
    assert found(torch, keras, {"a": "x/second"}) == {"a": ("x/second", "hint"), "b": ("x/first", "shape")}


def test_a_hint_that_no_shape_fits_is_an_error_with_the_shapes() -> None:
    with pytest.raises(
        AlignmentError, match=r"a.weight \(5, 3\) becomes \(3, 5\) by \"o i -> i o\", but z/kernel has shape \(3, 7\)"
    ):
        plan(torch_model(linear("a", 3, 5)), keras_model(dense("z", 3, 7)), {"a": "z"})


def test_hints_of_an_unsupported_type_are_refused() -> None:
    with pytest.raises(
        InputError, match=r"hints must be a dict, a list of \(regex, replacement\), or a callable, but is an int"
    ):
        plan(torch_model(linear("a", 3, 5)), keras_model(dense("z", 3, 5)), 3)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("hints", "fact"),
    [
        ([("decoder.(.*)", r"e/\1")], "none matches the whole path of a torch layer, such as 'encoder.fc'"),
        ([("encoder.(.*)", r"e/\1")], "into 'e/fc', but no Keras layer has this path; similar is 'enc/fc'"),
    ],
)
def test_regular_expressions_that_name_no_pair_are_an_error(hints: list[tuple[str, str]], fact: str) -> None:
    torch, keras = torch_model(linear("encoder.fc", 3, 5)), keras_model(dense("enc/fc", 3, 5))
    with pytest.raises(InputError) as caught:
        plan(torch, keras, hints)
    assert fact in str(caught.value)
    assert repr(hints[0][0]) in str(caught.value)


def test_a_tied_tensor_is_paired_once() -> None:
    first, second = linear("embed", 3, 5), linear("head", 3, 5)
    tied = tuple(
        LayerView(
            path=layer.path,
            kinds=layer.kinds,
            config=layer.config,
            tensors=tuple(
                TensorRef(path=tensor.path, role=tensor.role, shape=tensor.shape, storage=tensor.role)
                for tensor in layer.tensors
            ),
        )
        for layer in (first, second)
    )
    made = plan(torch_model(*tied), keras_model(dense("z", 3, 5))).check()
    assert [pair.torch for pair in made.pairs] == ["embed"]


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("module.layer1.0.convA", ("layer", "1", "0", "conv", "a")),
        ("_orig_mod.model.fc", ("fc",)),
        ("stack2_block1_0_conv/kernel", ("stack", "2", "block", "1", "0", "conv", "kernel")),
    ],
)
def test_paths_are_split_into_words(path: str, expected: tuple[str, ...]) -> None:
    assert names.words(path) == expected


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("encoder.layer.0.attention.self.query", "query"),
        ("blocks.3.attn.q_proj", "query"),
        ("self_attention/value_dense", "value"),
        ("mlp.fc1", "up"),
        ("attention.query_key_value", ""),
        ("mlp.gate_up_proj", ""),
        ("conv1", ""),
    ],
)
def test_the_function_of_a_layer_is_read_from_its_name(path: str, expected: str) -> None:
    assert names.meaning(path) == expected


def flattening(layer: LayerView, shape: tuple[int, ...] | None, *, seen: bool) -> LayerView:
    return replace(layer, run=LayerRun(calls=(0,) if seen else None, flattened=shape))


PERMUTED = Axes("o (c s) -> (s c) o", c=2, s=12)
PLAIN = Axes("o i -> i o")


@pytest.mark.parametrize(
    ("torch_shape", "torch_seen", "keras_shape", "keras_seen", "transform", "doubt"),
    [
        ((2, 3, 4), True, (3, 4, 2), True, PERMUTED, False),
        ((2, 3, 4), True, (), True, PERMUTED, False),  # a file says that there is a Flatten, and not of what
        ((2, 3, 4), True, None, True, PLAIN, False),  # Keras was run, and flattens nothing
        (None, True, (3, 4, 2), True, PLAIN, False),  # torch was run, and flattens nothing
        ((2, 3, 4), True, None, False, PERMUTED, True),  # a file without architecture
        (None, False, (3, 4, 2), True, PERMUTED, True),  # a checkpoint against a model
        (None, False, (), True, PLAIN, True),  # a checkpoint against a file that does not tell the shape
        (None, False, None, False, PLAIN, False),
        ((24, 1, 1), True, None, False, PLAIN, False),  # nothing to permute
    ],
)
def test_a_flatten_permutes_the_kernel_and_is_a_doubt_if_one_side_did_not_run(
    torch_shape: tuple[int, ...] | None,
    torch_seen: bool,
    keras_shape: tuple[int, ...] | None,
    keras_seen: bool,
    transform: Axes,
    doubt: bool,
) -> None:
    torch = torch_model(flattening(linear("fc", 24, 5), torch_shape, seen=torch_seen))
    keras = keras_model(flattening(dense("z", 24, 5), keras_shape, seen=keras_seen))
    (pair,) = plan(torch, keras).pairs
    assert pair.weights[0].transform == transform
    assert pair.decided_by == "shape"
    assert pair.unconfirmed == doubt


def parameter(path: str, shape: tuple[int, ...], owner: str = "my.Encoder") -> LayerView:
    layer, _, role = path.rpartition(".")
    return LayerView(path=layer, kinds=(owner,), config={}, tensors=(TensorRef(path=path, role=role, shape=shape),))


def variable(path: str, shape: tuple[int, ...]) -> LayerView:
    layer, _, role = path.rpartition("/")
    return LayerView(
        path=layer, kinds=("my.layers.Token",), config={}, tensors=(TensorRef(path=path, role=role, shape=shape),)
    )


def test_a_bare_parameter_is_paired_by_its_shape_ignoring_axes_of_size_one() -> None:
    torch = torch_model(parameter("encoder.cls", (1, 1, 8)), parameter("pos", (1, 5, 8)))
    keras = keras_model(variable("token/cls_token", (8,)), variable("position/embeddings", (5, 8)))
    made = plan(torch, keras).check()
    assert {pair.torch: (pair.keras, repr(pair.weights[0].transform)) for pair in made.pairs} == {
        "encoder.cls": ("token/cls_token", 'Axes("1 1 a -> a")'),
        "pos": ("position/embeddings", 'Axes("1 a b -> a b")'),
    }


def test_bare_parameters_of_one_shape_are_paired_by_name_or_are_unconfirmed() -> None:
    torch = torch_model(parameter("gamma_a", (8,)), parameter("gamma_b", (8,)), parameter("other", (8,)))
    keras = keras_model(variable("x/first", (8,)), variable("gamma/b", (8,)), variable("x/second", (8,)))
    made = plan(torch, keras)
    assert {pair.torch: (pair.keras, pair.unconfirmed) for pair in made.pairs} == {
        "gamma_b": ("gamma/b", False),
        "gamma_a": ("x/first", True),
        "other": ("x/second", True),
    }


def test_a_layer_that_no_rule_knows_is_named_with_the_nearest_and_a_stub_to_fill_in() -> None:
    unknown = LayerView(
        path="mix",
        kinds=("my.Linaer",),
        config={},
        tensors=(TensorRef(path="mix.a", role="a", shape=(3, 7)), TensorRef(path="mix.b", role="b", shape=(7,))),
    )
    with pytest.raises(UnsupportedLayerError) as caught:
        plan(torch_model(unknown), keras_model(dense("z", 3, 5))).check()
    assert "no rule knows my.Linaer, the known class with the most similar name is torch.nn.Linear" in str(caught.value)
    assert "k3c.register adds a rule" in str(caught.value)


def test_the_same_problem_in_every_block_is_one_line() -> None:
    torch = torch_model(*(linear(f"blocks.{place}.fc", 3, 5) for place in range(40)))
    with pytest.raises(AlignmentError) as caught:
        plan(torch, keras_model(dense("z", 9, 9))).check()
    assert "blocks.{0..39}.fc" in str(caught.value)
