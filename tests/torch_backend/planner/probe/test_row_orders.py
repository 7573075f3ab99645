"""A fused layer with another row order is paired with the row order that the outputs prove."""

from collections.abc import Callable
from typing import Any

import keras
import pytest
import torch
from keras import layers, ops
from torch import nn

import keras3conv as k3c
from keras3conv.errors import AlignmentError
from tests.support.models import randomize

WIDTH, HEADS, SIZE, STEPS = 10, 4, 6, 5
ROWS = HEADS * SIZE

Parts = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


def thirds(x: torch.Tensor) -> Parts:
    query, key, value = (part.unflatten(-1, (HEADS, SIZE)) for part in x.chunk(3, -1))
    return query, key, value


def key_query_value(x: torch.Tensor) -> Parts:
    key, query, value = thirds(x)
    return query, key, value


def by_heads(x: torch.Tensor) -> Parts:
    query, key, value = x.unflatten(-1, (HEADS, 3, SIZE)).unbind(-2)
    return query, key, value


def interleaved(x: torch.Tensor) -> Parts:
    query, key, value = (part.unflatten(-1, (HEADS, SIZE)) for part in x.unflatten(-1, (ROWS, 3)).unbind(-1))
    return query, key, value


def grouped(x: torch.Tensor) -> Parts:
    groups = x.unflatten(-1, (2, HEADS // 2 + 2, SIZE))
    key, value = (groups[..., [place], :].expand(-1, -1, -1, 2, -1) for place in (-2, -1))
    return groups[..., :-2, :].flatten(2, 3), key.flatten(2, 3), value.flatten(2, 3)


class Fused(nn.Module):
    """Attention with one projection for query, key and value; `split` gives the order of its rows."""

    def __init__(self, split: Callable[[torch.Tensor], Parts], rows: int = 3 * ROWS, *, bias: bool = True) -> None:
        super().__init__()
        self.split, self.num_heads = split, HEADS
        self.fused, self.out = nn.Linear(WIDTH, rows, bias=bias), nn.Linear(ROWS, 7)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        query, key, value = (part.transpose(1, 2) for part in self.split(self.fused(x)))
        weights = (query @ key.mT / SIZE**0.5).softmax(-1)
        made: torch.Tensor = self.out((weights @ value).transpose(1, 2).flatten(2))
        return made


def heads_of(x: Any, heads: int = HEADS) -> Any:
    return ops.transpose(ops.reshape(x, (-1, STEPS, heads, SIZE)), (0, 2, 1, 3))


def attended(query: Any, key: Any, value: Any) -> Any:
    weights = ops.softmax(query @ ops.transpose(key, (0, 1, 3, 2)) / SIZE**0.5, axis=-1)
    return ops.reshape(ops.transpose(weights @ value, (0, 2, 1, 3)), (-1, STEPS, ROWS))


def separate(groups: int = HEADS) -> keras.Model:
    x = keras.Input((STEPS, WIDTH))
    query = heads_of(layers.Dense(ROWS, name="query")(x))
    key, value = (heads_of(layers.Dense(groups * SIZE, name=name)(x), groups) for name in ("key", "value"))
    key, value = (ops.repeat(part, HEADS // groups, axis=1) for part in (key, value))
    return keras.Model(x, layers.Dense(7, name="out")(attended(query, key, value)))


def fused() -> keras.Model:
    x = keras.Input((STEPS, WIDTH))
    query, key, value = (heads_of(part) for part in ops.split(layers.Dense(3 * ROWS, name="qkv")(x), 3, axis=-1))
    return keras.Model(x, layers.Dense(7, name="out")(attended(query, key, value)))


def proven(module: nn.Module, model: keras.Model) -> k3c.Alignment:
    plan = k3c.align(randomize(module), model).check()
    k3c.transfer(module, model, plan)
    assert k3c.validate(module, model, alignment=plan, proofs=("structure", "roundtrip", "float64")).ok
    before = {name: value.clone() for name, value in module.state_dict().items()}
    k3c.transfer(model, randomize(module, seed=7), plan)
    assert all(torch.equal(before[name], value) for name, value in module.state_dict().items())
    return k3c.Alignment.from_json(plan.to_json())


@pytest.mark.parametrize("split", [thirds, key_query_value, by_heads, interleaved])
@pytest.mark.parametrize("make", [separate, fused])
def test_the_rows_of_a_fused_projection_are_permuted_to_the_order_of_the_other_side(
    split: Callable[[torch.Tensor], Parts], make: Callable[[], keras.Model]
) -> None:
    assert {pair.decided_by for pair in proven(Fused(split), make()).pairs} == {"probe"}


class Named(Fused):
    """The same with another name of the projection."""

    def __init__(self, name: str) -> None:
        super().__init__(by_heads)
        self.name = name
        self.add_module(name, self._modules.pop("fused"))

    def __getattr__(self, name: str) -> Any:
        return super().__getattr__(self.name if name == "fused" else name)


@pytest.mark.parametrize("name", ["query_key_value", "qkv_proj", "c_attn", "in_proj", "key_value_query"])
def test_no_name_of_a_fused_projection_hides_the_order_of_its_rows(name: str) -> None:
    assert {pair.decided_by for pair in proven(Named(name), fused()).pairs} == {"probe"}


@pytest.mark.slow
def test_rows_of_grouped_queries_keys_and_values_are_separated() -> None:
    assert not proven(Fused(grouped, (HEADS + 4) * SIZE), separate(groups=2)).difference


class Separate(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.q_proj, self.k_proj, self.v_proj = (nn.Linear(WIDTH, ROWS) for _ in range(3))
        self.out = nn.Linear(ROWS, 7)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        parts = (layer(x).unflatten(-1, (HEADS, SIZE)).transpose(1, 2) for layer in self.parts)
        query, key, value = parts
        made: torch.Tensor = self.out(((query @ key.mT / SIZE**0.5).softmax(-1) @ value).transpose(1, 2).flatten(2))
        return made

    @property
    def parts(self) -> tuple[nn.Module, ...]:
        return self.q_proj, self.k_proj, self.v_proj


@pytest.mark.slow
def test_separate_projections_are_paired_with_a_fused_one_interleaved_by_head() -> None:
    x = keras.Input((STEPS, WIDTH))
    split = ops.reshape(layers.Dense(3 * ROWS, name="query_key_value")(x), (-1, STEPS, HEADS, 3, SIZE))
    parts = (ops.transpose(split[..., place, :], (0, 2, 1, 3)) for place in range(3))
    proven(Separate(), keras.Model(x, layers.Dense(7, name="out")(attended(*parts))))


class Gated(nn.Module):
    def __init__(self, *, alternating: bool) -> None:
        super().__init__()
        self.both, self.down, self.alternating = nn.Linear(WIDTH, 12), nn.Linear(6, WIDTH), alternating

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        both = self.both(x)
        up, gate = (both[..., 1::2], both[..., ::2]) if self.alternating else both.chunk(2, -1)
        made: torch.Tensor = self.down(nn.functional.silu(gate) * up)
        return made


@pytest.mark.parametrize("alternating", [True, False])
@pytest.mark.parametrize("packed", [True, False])
def test_gate_and_up_rows_that_alternate_or_are_exchanged_are_reordered(alternating: bool, packed: bool) -> None:
    x = keras.Input((STEPS, WIDTH))
    if packed:
        gate, up = ops.split(layers.Dense(12, name="gate_up")(x), 2, axis=-1)
    else:
        gate, up = layers.Dense(6, name="gate")(x), layers.Dense(6, name="up")(x)
    proven(Gated(alternating=alternating), keras.Model(x, layers.Dense(WIDTH, name="down")(ops.silu(gate) * up)))


def halves(part: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    first, second = part.chunk(2, -1)
    return first, second


def turned(first: Any, second: Any, cosine: Any, sine: Any) -> tuple[Any, Any]:
    return first * cosine - second * sine, first * sine + second * cosine


class Rotary(Separate):
    """Rotary embedding that pairs the first half of a head with the second half."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        query, key, value = (layer(x).unflatten(-1, (HEADS, SIZE)).transpose(1, 2) for layer in self.parts)
        angles = torch.arange(STEPS, dtype=x.dtype)[:, None] / 10 ** torch.arange(SIZE // 2, dtype=x.dtype)
        cosine, sine = angles.cos(), angles.sin()
        query, key = (torch.cat(turned(*halves(part), cosine, sine), -1) for part in (query, key))
        made: torch.Tensor = self.out(((query @ key.mT / SIZE**0.5).softmax(-1) @ value).transpose(1, 2).flatten(2))
        return made


class PairsRotated(layers.Layer):
    """Rotary embedding that pairs adjacent values of a head."""

    def call(self, x: Any) -> Any:
        angles = ops.arange(STEPS, dtype=x.dtype)[:, None] / 10 ** ops.arange(SIZE // 2, dtype=x.dtype)
        rotated = turned(x[..., ::2], x[..., 1::2], ops.cos(angles), ops.sin(angles))
        return ops.reshape(ops.stack(rotated, -1), (-1, HEADS, STEPS, SIZE))


@pytest.mark.slow
def test_rotary_embeddings_over_pairs_and_over_halves_are_paired_and_certified() -> None:
    x = keras.Input((STEPS, WIDTH))
    query, key, value = (heads_of(layers.Dense(ROWS, name=name)(x)) for name in ("query", "key", "value"))
    query, key = PairsRotated()(query), PairsRotated()(key)
    proven(Rotary(), keras.Model(x, layers.Dense(7, name="out")(attended(query, key, value))))


class RoundedRotary(Rotary):
    """The angles are a float32 computation, so that the two sides never agree to the last digit of float64."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        query, key, value = (layer(x).unflatten(-1, (HEADS, SIZE)).transpose(1, 2) for layer in self.parts)
        angles = torch.arange(STEPS)[:, None] / 10 ** torch.arange(SIZE // 2, dtype=torch.float32)
        cosine, sine = angles.cos().to(x.dtype), angles.sin().to(x.dtype)
        query, key = (torch.cat(turned(*halves(part), cosine, sine), -1) for part in (query, key))
        made: torch.Tensor = self.out(((query @ key.mT / SIZE**0.5).softmax(-1) @ value).transpose(1, 2).flatten(2))
        return made


@pytest.mark.slow
def test_the_order_of_rotary_rows_is_found_in_spite_of_angles_in_float32() -> None:
    x = keras.Input((STEPS, WIDTH))
    query, key, value = (heads_of(layers.Dense(ROWS, name=name)(x)) for name in ("query", "key", "value"))
    query, key = PairsRotated()(query), PairsRotated()(key)
    model = keras.Model(x, layers.Dense(7, name="out")(attended(query, key, value)))
    plan = k3c.align(RoundedRotary(), model, inputs=torch.randn(2, STEPS, WIDTH)).check()
    assert not plan.unconfirmed
    assert any("Axes" in repr(mapping.transform) and "p" in repr(mapping.transform) for mapping in plan.mappings)


class FusedRotary(nn.Module):
    """Query, key and value in one layer, head by head, and angles that are a float32 computation."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.out = nn.Linear(WIDTH, 3 * ROWS, bias=False), nn.Linear(ROWS, 7, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        query, key, value = self.qkv(x).unflatten(-1, (HEADS, 3 * SIZE)).transpose(1, 2).chunk(3, -1)
        angles = torch.arange(STEPS)[:, None] / 10 ** torch.arange(SIZE // 2, dtype=torch.float32)
        cosine, sine = angles.cos().to(x.dtype), angles.sin().to(x.dtype)
        query, key = (torch.cat(turned(*halves(part), cosine, sine), -1) for part in (query, key))
        made: torch.Tensor = self.out(((query @ key.mT / SIZE**0.5).softmax(-1) @ value).transpose(1, 2).flatten(2))
        return made


class HalvesRotated(layers.Layer):
    """Rotary embedding over the halves of a head, with angles in float64."""

    def call(self, x: Any) -> Any:
        angles = ops.arange(STEPS, dtype=x.dtype)[:, None] / 10 ** ops.arange(SIZE // 2, dtype=x.dtype)
        first, second = ops.split(x, 2, axis=-1)
        rotated = turned(first, second, ops.cos(angles), ops.sin(angles))
        return ops.concatenate(rotated, -1)


@pytest.mark.slow
def test_rows_of_a_fused_layer_with_rotary_heads_are_found_in_spite_of_angles_in_float32() -> None:
    x = keras.Input((STEPS, WIDTH))
    dense = {name: layers.Dense(ROWS, use_bias=False, name=f"{name}_proj") for name in ("q", "k", "v")}
    query, key, value = (heads_of(layer(x)) for layer in dense.values())
    query, key = HalvesRotated()(query), HalvesRotated()(key)
    model = keras.Model(x, layers.Dense(7, use_bias=False, name="out")(attended(query, key, value)))
    plan = k3c.align(FusedRotary(), model, inputs=torch.randn(2, STEPS, WIDTH)).check()
    assert not plan.unconfirmed


def odd(x: torch.Tensor) -> Parts:
    query, key, value = thirds(x.flip(-1))
    return query, key.flip(-1), value


@pytest.mark.slow
def test_a_plan_with_an_unknown_row_order_is_refused_with_the_reason() -> None:
    reason = r"no other order of the rows in the weights of '.*fused'.* makes the outputs agree"
    with pytest.raises(AlignmentError, match=reason):
        k3c.align(Fused(odd), fused()).check()


def test_trials_of_other_orders_leave_the_evidence_for_a_stack_as_it_was() -> None:
    class Stacked(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner, self.rnn, self.head = nn.Linear(4, 6), nn.LSTM(6, 5, 2, batch_first=True), nn.Linear(5, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            made: torch.Tensor = self.head(self.rnn(self.inner(x))[0])
            return made

    given = keras.Input((7, 4))
    x = keras.layers.Dense(6)(given)
    for _ in range(2):
        x = keras.layers.LSTM(5, return_sequences=True)(x)
    model = keras.Model(given, keras.ops.tanh(keras.layers.Dense(3)(x)))
    plan = k3c.align(randomize(Stacked()), model, inputs=torch.randn(2, 7, 4))
    assert plan.difference
    assert not any(pair.unconfirmed for pair in plan.pairs if pair.torch == "rnn")
