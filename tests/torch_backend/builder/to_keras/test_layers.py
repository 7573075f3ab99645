"""Layers without a direct counterpart: states, cells, computed weights, repeated parts as functions, dynamic sizes."""

from typing import Any

import pytest
import torch
from torch import nn

import keras3conv as k3c
from keras3conv.errors import InputError, UnsupportedLayerError
from tests.support.to_keras import LIMIT, converted, float64_error


def rounded(module: nn.Module) -> nn.Module:
    """Return the module with rounded biases, so that their sum, which Keras stores, is exact."""
    for name, parameter in module.named_parameters():
        if "bias" in name:
            parameter.data = (parameter.data * 64).round() / 64
    return module


class States(nn.Module):
    def __init__(self, kind: Any, layers: int, *, bidirectional: bool) -> None:
        super().__init__()
        self.rnn = kind(5, 7, layers, batch_first=True, bidirectional=bidirectional)

    def forward(self, x: torch.Tensor, *states: torch.Tensor) -> Any:
        turned = tuple(state.transpose(0, 1) for state in states)
        return self.rnn(x, turned if len(turned) > 1 else turned[0])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "layers", "bidirectional"), [(nn.LSTM, 2, False), (nn.LSTM, 1, True), (nn.GRU, 1, False)]
)
def test_initial_and_final_states_are_given_and_returned(kind: Any, layers: int, bidirectional: bool) -> None:
    rows = layers * (2 if bidirectional else 1)
    states = [torch.randn(3, rows, 7) for _ in range(2 if kind is nn.LSTM else 1)]
    converted(rounded(States(kind, layers, bidirectional=bidirectional)), (torch.randn(3, 4, 5), *states))


def test_a_cell_in_a_loop_is_one_layer() -> None:
    class Loop(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cell, self.other = nn.LSTMCell(4, 6), nn.GRUCell(6, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            state, last = None, None
            for step in x.unbind(1):
                state = self.cell(step, state)
                last = self.other(state[0], last)
            assert last is not None
            return last

    built = converted(rounded(Loop()), torch.randn(2, 3, 4))
    assert built.source.count("layers.LSTMCell") == 1


def test_a_stride_and_a_dilation_are_a_layer_and_a_slice() -> None:
    converted(nn.Conv2d(4, 6, 3, 2, 2, 2, groups=2), torch.randn(2, 4, 9, 8))


class Branch(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(channels, channels, 3, padding=1), nn.BatchNorm2d(channels)
        self.end = nn.Conv2d(channels, channels, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.end(torch.relu(self.norm(self.conv(x))))


class Repeated(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stages = nn.Sequential(Branch(4), Branch(4), nn.Conv2d(4, 6, 1), Branch(6), Branch(6), Branch(6))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.stages(x)


class Depth(nn.Module):
    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not self.training:
            return x
        kept = torch.rand(x.shape[0], *(1,) * (x.ndim - 1)) >= self.rate
        return x * kept / (1.0 - self.rate)


def test_stochastic_depth_is_converted_to_a_dropout_of_whole_samples() -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 1), Depth(0.25))
    built = converted(module, torch.randn(2, 3, 4, 5))
    assert "layers.Dropout(0.25, noise_shape=(None, 1, 1, 1)" in built.source
    found = built.model(torch.ones(64, 4, 5, 3).numpy(), training=True).detach().reshape(64, -1)
    assert 0 < int((found == 0).all(1).sum()) < 40
    assert bool(((found == 0).all(1) | (found != 0).all(1)).all())
    assert "forward" not in vars(module[1])


def test_stochastic_depth_with_a_rate_of_zero_stays_where_others_have_one() -> None:
    module = nn.Sequential(nn.Linear(3, 4), Depth(0.0), nn.Linear(4, 4), Depth(0.25))
    built = converted(module, torch.randn(2, 3))
    assert "layers.Dropout(0.0, noise_shape=(None, 1)" in built.source
    assert "Dropout" not in converted(module[:2], torch.randn(2, 3)).source


def test_modules_of_one_class_become_a_function_with_its_name() -> None:
    built = converted(Repeated(), torch.randn(2, 4, 5, 6))
    assert "def branch(x, name, filters=6):" in built.source
    assert 'branch(x, "stages_0", filters=4)' in built.source
    assert {layer.name for layer in built.model.layers} >= {"stages_0_conv", "stages_5_end", "stages_3_norm"}


def test_dense_blocks_with_growing_channels_become_one_function() -> None:
    class Dense(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.ModuleList(
                nn.Sequential(nn.BatchNorm2d(4 + 3 * number), nn.ReLU(), nn.Conv2d(4 + 3 * number, 3, 1))
                for number in range(6)
            )

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            made = [x]
            for layer in self.layers:
                made.append(layer(torch.cat(made, 1)))
            return torch.cat(made, 1)

    built = converted(Dense(), torch.randn(2, 4, 5, 6))
    assert built.source.count("layers.Conv2D") == 1


def test_dynamic_image_sizes_stay_dynamic() -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 3, 2, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
    conversion = k3c.convert(module.eval(), inputs=torch.randn(2, 3, 12, 14), dynamic={"input": (2, 3)}, validate=False)
    assert conversion.model.input_shape == (None, None, None, 3)
    other = torch.randn(3, 3, 17, 20)
    found = conversion.model(other.permute(0, 2, 3, 1).numpy())
    assert torch.allclose(found, module(other), atol=1e-5)


def test_dynamic_sequence_lengths_stay_dynamic() -> None:
    from keras3conv.builder.to_keras.build import build

    class Text(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.tokens, self.positions = nn.Embedding(20, 8), nn.Embedding(12, 8)
            self.table, self.qkv = nn.Parameter(torch.randn(1, 12, 8)), nn.Linear(8, 24)

        def forward(self, ids: torch.Tensor) -> torch.Tensor:
            batch, length = ids.shape
            x = self.tokens(ids) + self.positions(torch.arange(length)) + self.table[:, :length]
            q, k, v = self.qkv(x).view(batch, length, 3, 2, 4).permute(2, 0, 3, 1, 4).unbind(0)
            made = nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
            return x + made.transpose(1, 2).reshape(batch, length, 8)

    module = Text().eval()
    built = build(module, "last", torch.randint(0, 20, (2, 7)), {"ids": (1,)})
    assert float64_error(module, built, torch.randint(0, 20, (3, 11))) < LIMIT


def test_a_dynamic_axis_of_an_unknown_input_is_refused() -> None:
    with pytest.raises(InputError, match=r"dynamic=\{'y': ...\} is given"):
        k3c.convert(nn.Linear(4, 4), inputs=torch.randn(2, 4), dynamic={"y": (1,)})


@pytest.mark.parametrize(("mode", "padding"), [("mean", None), ("sum", 0), ("mean", 0), ("max", 0), ("max", None)])
def test_a_bag_of_embeddings_is_an_embedding_and_a_reduction(mode: str, padding: int | None) -> None:
    built = converted(
        nn.EmbeddingBag(9, 4, mode=mode, padding_idx=padding), torch.tensor([[1, 2, 3], [4, 0, 5], [0, 0, 0]])
    )
    assert "layers.Embedding(9, 4" in built.source


class Weighted(nn.Module):
    def __init__(self, *, has_offsets: bool = False) -> None:
        super().__init__()
        self.bag, self.has_offsets = nn.EmbeddingBag(9, 4, mode="sum"), has_offsets

    def forward(self, tokens: torch.Tensor, factors: torch.Tensor) -> Any:
        if self.has_offsets:
            return self.bag(tokens.flatten(), factors[:, 0].int().long())
        return self.bag(tokens, per_sample_weights=factors)


@pytest.mark.slow
def test_a_bag_with_factors_is_converted_and_one_with_offsets_is_refused() -> None:
    given = torch.tensor([[1, 2, 3], [4, 0, 5]]), torch.rand(2, 3)
    converted(Weighted(), given)
    with pytest.raises(UnsupportedLayerError, match="pass indices with two axes"):
        k3c.convert(Weighted(has_offsets=True), inputs=given)


def test_alpha_dropout_stays_a_layer() -> None:
    built = converted(nn.Sequential(nn.Linear(4, 4), nn.SELU(), nn.AlphaDropout(0.2)), torch.randn(2, 4))
    assert "layers.AlphaDropout(0.2" in built.source


class Attends(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        options: dict[str, Any] = {"add_bias_kv": True, "add_zero_attn": True}
        self.attention = nn.MultiheadAttention(4, 2, kdim=3, vdim=5, batch_first=True, **options)

    def forward(self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> Any:
        return self.attention(query, key, value)[0]


@pytest.mark.slow
def test_an_attention_with_a_learned_key_for_every_sample_is_converted() -> None:
    converted(Attends(), (torch.randn(2, 5, 4), torch.randn(2, 7, 3), torch.randn(2, 7, 5)))


def test_constants_are_returned_with_one_row_per_sample() -> None:
    class Positions(nn.Module):
        def forward(self, x: torch.Tensor) -> Any:
            numbers = torch.arange(x.shape[1])
            first, second = (torch.zeros(2 * x.shape[0], 4) + torch.arange(4.0)).split([1, 3], -1)
            doubled = torch.cat([x, x])[:, :1] * first + second
            return x * 2, numbers.expand(x.shape[0], -1), numbers, torch.zeros(2 * x.shape[0], 3) + 1, doubled

    converted(Positions(), torch.randn(2, 5))


class Projected(nn.Module):
    """An LSTM with a projection of its outputs, all of whose results are returned."""

    def __init__(self, *, has_states: bool, **options: Any) -> None:
        super().__init__()
        self.lstm, self.has_states = nn.LSTM(4, 6, proj_size=3, **options), has_states

    def forward(self, x: torch.Tensor) -> Any:
        number = self.lstm.num_layers * (1 + self.lstm.bidirectional)
        first = torch.stack([x[:, 0]] * number)
        given = x if self.lstm.batch_first else x.transpose(0, 1)
        if not self.has_states:
            return self.lstm(given)
        return self.lstm(given, (first[..., :3], torch.cat([first, first[..., :2]], -1)))


@pytest.mark.parametrize(
    ("has_states", "options"),
    [
        (False, {"num_layers": 2, "bidirectional": True, "batch_first": True}),
        (True, {"bias": False, "bidirectional": True}),
        (False, {"num_layers": 2, "dropout": 0.5}),
    ],
)
@pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")
def test_an_lstm_with_a_projection_is_written_out(has_states: bool, options: dict[str, Any]) -> None:
    converted(Projected(has_states=has_states, **options), torch.randn(2, 5, 4))
