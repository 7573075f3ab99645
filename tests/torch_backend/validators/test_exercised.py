"""Inputs that are made up exercise what a model reacts to: masks, ranges of integers, bounds, padding."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - the name that everybody gives it
from keras import layers, ops
from torch import nn

import keras3conv as k3c
from keras3conv.report.values import Section

pytestmark = pytest.mark.usefixtures("without_causes")

WIDTH, STEPS = 4, 6


class Net(nn.Module):
    """A module that calls a function with itself and its inputs."""

    def __init__(self, function: Callable[..., torch.Tensor], **parts: nn.Module) -> None:
        super().__init__()
        self.function = function
        for name, part in parts.items():
            self.add_module(name, part)

    def forward(self, first: torch.Tensor, second: torch.Tensor | None = None) -> torch.Tensor:
        return self.function(self, first) if second is None else self.function(self, first, second)


def model(inputs: Any, function: Callable[..., Any]) -> keras.Model:
    given = inputs if isinstance(inputs, list) else [inputs]
    return keras.Model(inputs, function(*given))


def proof(module: nn.Module, built: keras.Model, inputs: Any = None) -> Section:
    names = {name: name for name, _ in module.named_children()}
    plan = k3c.align(module, built, hints=names, probe=False)
    k3c.transfer(module, built, plan)
    report = k3c.validate(module.eval(), built, inputs=inputs, alignment=plan, proofs=["float64"])
    return report.section("float64")


def dense(function: Callable[[Any], Any], dtype: str = "float32") -> keras.Model:
    head = layers.Dense(3, name="fc")
    return model(keras.Input((WIDTH,), dtype=dtype), lambda x: head(ops.cast(function(x), "float32")))


def linear(function: Callable[[torch.Tensor], torch.Tensor]) -> nn.Module:
    def run(net: Any, x: torch.Tensor) -> torch.Tensor:
        made: torch.Tensor = net.fc(function(x).to(net.fc.weight.dtype))
        return made

    return Net(run, fc=nn.Linear(WIDTH, 3))


def attention(dtype: str, shape: tuple[int, ...]) -> keras.Model:
    layer, head = layers.MultiHeadAttention(2, 2, name="mha"), layers.Dense(3, name="fc")

    def call(x: Any, mask: Any) -> Any:
        allowed = ops.cast(mask, "bool")
        return head(layer(x, x, attention_mask=allowed if len(shape) == 2 else allowed[:, None, :]))

    return model([keras.Input((STEPS, WIDTH), name="x"), keras.Input(shape, dtype=dtype, name="mask")], call)


def attending(mask: Callable[[torch.Tensor], torch.Tensor | None]) -> nn.Module:
    def run(net: Any, x: torch.Tensor, given: torch.Tensor) -> torch.Tensor:
        hidden = mask(given)
        if hidden is not None:
            hidden = hidden.expand(-1, STEPS, -1).repeat_interleave(2, 0)  # one matrix for each head
            hidden = hidden.to(x.dtype) if hidden.is_floating_point() else hidden
        made: torch.Tensor = net.fc(net.mha(x, x, x, attn_mask=hidden, need_weights=False)[0])
        return made

    return Net(run, mha=nn.MultiheadAttention(WIDTH, 2, batch_first=True), fc=nn.Linear(WIDTH, 3))


@pytest.mark.parametrize(("dtype", "shape"), [("bool", (STEPS, STEPS)), ("bool", (STEPS,)), ("int32", (STEPS,))])
def test_a_module_that_ignores_a_mask_fails(dtype: str, shape: tuple[int, ...]) -> None:
    assert proof(attending(lambda mask: None), attention(dtype, shape)).status == "failed"


def test_a_module_that_ignores_a_given_mask_of_ones_fails() -> None:
    inputs = torch.randn(2, STEPS, WIDTH), torch.ones(2, STEPS, dtype=torch.int32)
    assert proof(attending(lambda mask: None), attention("int32", (STEPS,)), inputs).status == "failed"


@pytest.mark.parametrize(
    ("dtype", "shape", "mask"),
    [
        ("bool", (STEPS, STEPS), lambda mask: ~mask),
        ("bool", (STEPS,), lambda mask: ~mask[:, None, :]),
        ("int32", (STEPS,), lambda mask: (1.0 - mask[:, None, :]) * -1e30),
        ("int32", (STEPS,), lambda mask: mask[:, None, :] == 0),
    ],
)
def test_a_mask_that_is_read_on_both_sides_passes(dtype: str, shape: tuple[int, ...], mask: Any) -> None:
    section = proof(attending(mask), attention(dtype, shape))
    assert section.status == "passed", section.problems


@pytest.mark.parametrize(
    ("torch_function", "keras_function", "dtype"),
    [
        (lambda x: x % 5, lambda x: x % 7, "int32"),
        (lambda x: x // 8, lambda x: x // 16, "int32"),
        (lambda x: x.clamp(max=200), lambda x: x, "uint8"),
        (lambda x: torch.where(x > 100, 0, x), lambda x: x, "int8"),
    ],
)
def test_a_difference_that_only_large_integers_show_fails(torch_function: Any, keras_function: Any, dtype: str) -> None:
    assert proof(linear(torch_function), dense(keras_function, dtype)).status == "failed"


def test_the_largest_range_of_integers_that_both_sides_accept_is_tried() -> None:
    head = layers.Dense(3, name="fc")
    built = model(keras.Input((WIDTH,), dtype="int32"), lambda x: head(ops.one_hot(x, 10)))

    def rows(highest: int) -> nn.Module:
        def run(net: Any, x: torch.Tensor) -> torch.Tensor:
            codes = F.one_hot(x.long().clamp(max=highest), 10) if highest < 9 else F.one_hot(x.long(), 10)
            made: torch.Tensor = net.fc(codes.to(net.fc.weight.dtype))
            return made

        return Net(run, fc=nn.Linear(10, 3))

    section = proof(rows(9), built)
    assert section.status == "passed", section.problems
    assert "with integers from 0 to 7" in section.facts["exercised"]
    assert proof(rows(5), built).status == "failed"


LIMITS = np.array([500.0, 600.0, 700.0, 800.0], "float32")


@pytest.mark.parametrize(
    ("torch_function", "keras_function"),
    [
        (lambda x: torch.minimum(x, torch.from_numpy(LIMITS)), lambda x: x),
        (lambda x: x, lambda x: ops.minimum(x, LIMITS)),
        (lambda x: torch.where(x > torch.from_numpy(LIMITS), 2 * x, x), lambda x: x),
        (lambda x: torch.max(x, torch.tensor(-300.0)), lambda x: x),
        (lambda x: F.threshold(x, -300.0, 0.0), lambda x: x),
        (lambda x: F.hardshrink(x, 300.0), lambda x: 0.0 * x),
        (lambda x: F.relu6(1e-3 * x + 3), lambda x: 1e-3 * x + 3),
    ],
    ids=["limit for each channel", "in Keras", "where", "scalar tensor", "threshold", "shrink", "small factor"],
)
def test_a_far_bound_on_one_side_fails(torch_function: Any, keras_function: Any) -> None:
    assert proof(linear(torch_function), dense(keras_function)).status == "failed"


def test_a_bound_that_is_not_reached_is_in_the_verdict() -> None:
    section = proof(linear(lambda x: torch.tanh(x).clamp(max=2.0)), dense(lambda x: ops.minimum(ops.tanh(x), 2.0)))
    assert section.status == "passed", section.problems
    assert "2 of 2 bounds not reached" in section.summary


def masked(merge: Callable[[Any, Any], Any]) -> keras.Model:
    """Two sequences of tokens, merged, and an LSTM that ignores the padding of both."""
    words = [layers.Embedding(9, WIDTH, mask_zero=True, name=name) for name in ("left", "right")]
    layer, head = layers.LSTM(5, name="lstm"), layers.Dense(3, name="fc")
    given = [keras.Input((7,), dtype="int32", name=name) for name in ("first", "second")]
    return model(given, lambda x, y: head(layer(merge(words[0](x), words[1](y)))))


def packed(net: Any, steps: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
    together = nn.utils.rnn.pack_padded_sequence(steps, lengths.clamp(min=1), batch_first=True, enforce_sorted=False)
    made: torch.Tensor = net.fc(net.lstm(together)[1][0][-1])
    return made


def parts() -> dict[str, nn.Module]:
    words = {"left": nn.Embedding(9, WIDTH), "right": nn.Embedding(9, WIDTH)}
    return words | {"lstm": nn.LSTM(WIDTH, 5, batch_first=True), "fc": nn.Linear(5, 3)}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The use of `x.T`:UserWarning")  # of the search for a cause
@pytest.mark.parametrize("inputs", [None, (torch.randint(1, 9, (3, 7)), torch.randint(1, 9, (3, 7)))])
def test_a_module_that_reads_one_of_two_masks_fails(inputs: Any) -> None:
    def first_only(net: Any, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return packed(net, net.left(x) + net.right(y), (x != 0).sum(1))

    def both(net: Any, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return packed(net, net.left(x) + net.right(y), ((x != 0) | (y != 0)).sum(1))

    built = masked(lambda x, y: layers.Add()([x, y]))
    assert proof(Net(first_only, **parts()), built, inputs).status == "failed"
    section = proof(Net(both, **parts()), built, inputs)
    assert section.status == "passed", section.problems


@pytest.mark.slow
def test_padding_at_the_start_is_a_limit_in_the_verdict() -> None:
    layer, head = layers.LSTM(5, name="lstm"), layers.Dense(3, name="fc")
    words = layers.Embedding(9, WIDTH, mask_zero=True, name="left")
    built = model(keras.Input((7,), dtype="int32"), lambda x: head(layer(words(x))))

    def by_length(net: Any, x: torch.Tensor) -> torch.Tensor:
        return packed(net, net.left(x), (x != 0).sum(1))

    section = proof(Net(by_length, **{name: part for name, part in parts().items() if name != "right"}), built)
    assert section.status == "passed", section.problems
    assert "they differ with padding at the start" in section.summary
    assert section.facts["they differ"] == "with padding between other steps, with padding at the start"
    made = k3c.convert(built, channels="last").report
    assert made is not None
    assert "with padding at the start" in made.section("float64").facts["exercised"]


WORDS = keras.Input((5,), dtype="int32")
SEEN = torch.tensor([[0, 1, 2, 5, 4], [4, 5, 6, 7, 8]])


def of_words(torch_function: Any, keras_function: Any) -> Section:
    """Return the proof of two functions of words whose sample has no word twice, and not every word."""
    module = Net(lambda net, x: net.fc(torch_function(F.one_hot(x, 9).to(net.fc.weight.dtype), x)), fc=nn.Linear(9, 3))
    made = keras_function(ops.one_hot(WORDS, 9), WORDS)
    model = keras.Model(WORDS, keras.layers.Dense(3, name="fc")(made))
    plan = k3c.align(module, model, inputs=SEEN, probe=False)
    return k3c.validate(module, model, inputs=SEEN, alignment=plan, proofs=["float64"]).section("float64")


@pytest.mark.parametrize(
    ("torch_function", "keras_function", "status"),
    [
        (lambda hot, x: hot.sum(1), lambda hot, x: ops.max(hot, 1), "failed"),
        (lambda hot, x: hot.amax(1), lambda hot, x: ops.max(hot, 1), "passed"),
        (
            lambda hot, x: (hot * (x > 3)[..., None]).sum(1),
            lambda hot, x: ops.sum(hot * ops.cast(x >= 3, "float32")[..., None], 1),
            "failed",
        ),
    ],
)
def test_words_are_tried_that_are_not_in_the_sample_or_twice_in_it(
    torch_function: Any, keras_function: Any, status: str
) -> None:
    assert of_words(torch_function, keras_function).status == status


@pytest.mark.parametrize(("steps", "status"), [(40, "failed"), (600, "failed"), (10**4, "passed")])
def test_a_module_that_truncates_its_input_fails_at_a_size_beyond(steps: int, status: str) -> None:
    module = Net(lambda net, x: net.fc(x[:, :steps].mean(1)), fc=nn.Linear(4, 3))
    given = keras.Input((None, 4))
    model = keras.Model(given, keras.layers.Dense(3, name="fc")(ops.mean(given, 1)))
    x = torch.randn(2, 8, 4, generator=torch.Generator().manual_seed(0))
    plan = k3c.align(module, model, inputs=x, probe=False)
    section = k3c.validate(module, model, inputs=x, alignment=plan, proofs=["float64"]).section("float64")
    assert section.status == status
    if status == "passed":
        assert "at a size beyond 10000" in section.facts["not reached"]


@pytest.mark.parametrize(("steps", "status"), [(600, "failed"), (10**4, "passed")])
def test_a_keras_model_that_truncates_its_input_fails_at_a_size_beyond(steps: int, status: str) -> None:
    module = Net(lambda net, x: net.fc(x.mean(1)), fc=nn.Linear(4, 3))
    given = keras.Input((None, 4))
    model = keras.Model(given, keras.layers.Dense(3, name="fc")(ops.mean(given[:, :steps], 1)))
    x = torch.randn(2, 8, 4, generator=torch.Generator().manual_seed(0))
    plan = k3c.align(module, model, inputs=x, probe=False)
    section = k3c.validate(module, model, inputs=x, alignment=plan, proofs=["float64"]).section("float64")
    assert section.status == status
    if status == "passed":
        assert "at a size beyond 10000" in section.facts["not reached"]


def test_a_function_of_values_that_are_not_finite_is_not_reached() -> None:
    module = Net(lambda net, x: net.fc(torch.nan_to_num(x)), fc=nn.Linear(4, 3))
    given = keras.Input((4,))
    model = keras.Model(given, keras.layers.Dense(3, name="fc")(given))
    section = k3c.validate(module, model, inputs=torch.randn(2, 4), proofs=["float64"]).section("float64")
    assert "nan of nan_to_num" in section.facts["not reached"]
    assert "1 of 1 bound not reached" in section.summary


def test_integers_that_only_one_side_reads_as_a_mask_are_a_limit_in_the_verdict() -> None:
    module = Net(lambda net, x, mask: net.fc((x * (mask == 1)[..., None]).sum(1)), fc=nn.Linear(4, 3))
    x, mask = keras.Input((5, 4)), keras.Input((5,), dtype="int32")
    kept = x * ops.cast(mask != 0, "float32")[..., None]
    built = keras.Model([x, mask], keras.layers.Dense(3, name="fc")(ops.sum(kept, 1)))
    inputs = (torch.randn(2, 5, 4), torch.tensor([[1, 1, 1, 0, 0], [1, 0, 1, 1, 0]]))
    section = proof(module, built, inputs)
    assert section.status == "passed", section.problems
    assert section.facts["they differ"] == "with integers from 0 to 255 in a mask"
