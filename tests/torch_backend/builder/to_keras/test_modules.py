"""Whole modules: images, texts, recurrent layers, tied weights, bare parameters; their Keras layers and names."""

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

import keras3conv as k3c
from keras3conv.errors import UnsupportedLayerError
from tests.support.to_keras import Function, converted


class Block(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, groups=2)
        self.relu = nn.ReLU(inplace=True)
        self.shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        made = self.conv2(self.relu(self.bn1(self.conv1(x))))
        made += self.shortcut(x)
        return self.relu(made)


class ResNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, 2, 1)
        self.pool = nn.MaxPool2d(3, 2, 1)
        self.layer = nn.Sequential(Block(4, 6, 1), Block(6, 8, 2))
        self.average = nn.AdaptiveAvgPool2d(1)
        self.dropout = nn.Dropout(0.2)
        self.fc = nn.Linear(8, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.layer(self.pool(functional.relu6(self.stem(x))))
        return self.fc(self.dropout(torch.flatten(self.average(x), 1)))


class Decoder(nn.Module):
    """A decoder with tied embeddings, a position table, layer scale and a class token."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens = nn.Embedding(11, 8)
        self.positions = nn.Parameter(torch.randn(1, 6, 8))
        self.token = nn.Parameter(torch.randn(1, 1, 8))
        self.scale = nn.Parameter(torch.rand(8))
        self.norm = nn.LayerNorm(8)
        self.qkv = nn.Linear(8, 24)
        self.project = nn.Linear(8, 8, bias=False)
        self.head = nn.Linear(8, 11, bias=False)
        self.head.weight = self.tokens.weight

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        x = torch.cat([self.token.expand(ids.shape[0], -1, -1), self.tokens(ids)], 1) + self.positions
        q, k, v = self.qkv(self.norm(x)).view(-1, 6, 3, 2, 4).permute(2, 0, 3, 1, 4).unbind(0)
        made = functional.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).flatten(2)
        return self.head(x + self.scale * self.project(made))


class Recurrent(nn.Module):
    def __init__(self, kind: Any, **options: Any) -> None:
        super().__init__()
        self.rnn = kind(5, 7, **options)
        for name, parameter in self.rnn.named_parameters():
            if "bias" in name:  # Keras holds the sum of two biases, which is exact for such numbers
                parameter.data = (parameter.data * 64).round() / 64

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        made, state = self.rnn(x)
        return made, state[0] if isinstance(state, tuple) else state


@pytest.mark.parametrize("channels", ["last", "first"])
def test_a_residual_network_has_the_layers_of_keras_and_no_permutation(channels: str) -> None:
    built = converted(ResNet(), torch.randn(2, 3, 32, 32), channels)
    assert "transpose" not in built.source
    assert {layer.name for layer in built.model.layers} >= {"stem", "pool", "layer_0_conv1", "layer_1_shortcut_1", "fc"}
    assert 'layers.Dropout(0.2, name="dropout")' in built.source


def test_a_flattened_image_goes_into_a_dense_layer_with_permuted_rows() -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 4 * 6, 5))
    assert "transpose" not in converted(module, torch.randn(2, 3, 6, 8)).source


def test_layers_of_images_and_sequences_compute_the_same() -> None:
    image = nn.Sequential(
        nn.Conv2d(4, 8, 3, padding=1, groups=4),
        nn.GroupNorm(2, 8),
        nn.PReLU(8),
        nn.ConvTranspose2d(8, 6, 3, 2, 1, 1),
        nn.InstanceNorm2d(6, affine=True),
        nn.Upsample(scale_factor=2),
        nn.AvgPool2d(3, 2, 1),
    )
    converted(image, torch.randn(2, 4, 5, 6))
    sequence = nn.Sequential(nn.Conv1d(4, 6, 3, 2, 1), nn.BatchNorm1d(6), nn.AdaptiveMaxPool1d(1), nn.Flatten())
    converted(sequence, torch.randn(2, 4, 9))


def test_a_decoder_stores_tied_and_bare_parameters_once() -> None:
    built = converted(Decoder(), torch.randint(0, 11, (2, 5)))
    assert len(built.model.trainable_variables) == 9
    assert "transpose(q" not in built.source
    assert not built.alignment.problems()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "options"),
    [
        (nn.LSTM, {"num_layers": 2, "bidirectional": True, "batch_first": True}),
        (nn.GRU, {"batch_first": True}),
        (nn.LSTM, {"bias": False}),
    ],
)
def test_recurrent_layers_compute_the_same(kind: Any, options: dict[str, Any]) -> None:
    built = converted(Recurrent(kind, **options), torch.randn(3, 4, 5))
    assert not built.alignment.problems()


@pytest.mark.slow
def test_a_packed_attention_of_torch_computes_the_same() -> None:
    built = converted(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), torch.randn(2, 5, 8))
    assert "transpose" not in built.source


def test_a_layer_that_is_called_twice_is_one_layer() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(4, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.fc(self.fc(x))

    built = converted(Twice(), torch.randn(2, 4))
    assert built.source.count("layers.Dense") == 1


def test_a_layer_that_is_called_with_inputs_of_several_ranks_is_one_layer() -> None:
    class Both(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(3, 2)

        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return self.head(x), self.head(x.mean(1))

    built = converted(Both(), torch.randn(2, 4, 3))
    assert built.source.count("layers.Dense(") == 1


def test_computed_constants_do_not_turn_the_model_into_float64() -> None:
    def net(x: torch.Tensor) -> torch.Tensor:
        return x * torch.exp(-0.5 * torch.arange(3)) + torch.tensor([0.5, 2.0, -1.0])

    built = converted(Function(net), torch.randn(2, 3))
    assert built.source.count('"float64")') == 1
    assert built.source.count('np.array([0.5, 2.0, -1.0], "float32")') == 1
    assert built.model(np.ones((2, 3), "float32")).dtype == torch.float32


def test_frozen_parameters_are_frozen_in_keras() -> None:
    module = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 3))
    module[0].requires_grad_(False)
    built = converted(module, torch.randn(2, 4))
    assert len(built.model.trainable_variables) == 2


def test_the_batch_size_is_dynamic_and_one_sample_is_enough() -> None:
    built = converted(ResNet(), torch.randn(1, 3, 32, 32))
    assert built.model.input_shape == (None, 32, 32, 3)
    assert built.model.output_shape == (None, 5)


def test_inputs_by_name_become_named_inputs() -> None:
    class Two(nn.Module):
        def forward(self, x: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
            return x * scale[:, None]

    built = converted(Two(), {"x": torch.randn(2, 3), "scale": torch.randn(2)})
    assert [one.name for one in built.model.inputs] == ["x", "scale"]


def test_a_large_constant_is_stored_in_a_file_beside_the_code() -> None:
    table = torch.rand(5, 8)
    built = converted(Function(lambda x: x + table), torch.randn(2, 5, 8))
    assert len(built.constants) == 1
    assert "CONSTANTS[" in built.source


def test_a_parameter_with_one_factor_per_channel_becomes_a_layer() -> None:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gamma = nn.Parameter(torch.rand(3, 1, 1))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + self.gamma * x

    built = converted(Scaled(), torch.randn(2, 3, 4, 5))
    assert 'layers.EinsumDense("abcd,d->abcd", (4, 5, 3), name="gamma")(x)' in built.source


def test_a_mask_per_sample_can_be_indexed_by_the_sample_index() -> None:
    def masked(x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        examples = torch.arange(x.shape[0])[:, None, None, None]
        seen = mask.bool()[examples, torch.arange(5)[None, None, None]] & torch.ones(5, 5).tril().bool()
        return functional.scaled_dot_product_attention(x[:, None], x[:, None], x[:, None], attn_mask=seen)

    mask = torch.ones(2, 5, dtype=torch.int64)
    mask[1, 3:] = 0
    converted(Function(masked), (torch.randn(2, 5, 4), mask))


def test_a_parameter_may_be_sliced_and_transformed_before_its_use(tmp_path: Path) -> None:
    class Packed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.randn(6, 4))
            self.bias = nn.Parameter(torch.randn(6))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            bias = self.bias.clone()
            bias[2:4].zero_()
            first, second = self.weight.chunk(2)
            return functional.linear(x, self.weight, bias)[:, 3:] * functional.linear(x, first) + x @ second.T

    built = converted(Packed(), torch.randn(2, 4))
    assert len(built.model.trainable_variables) == 2
    built.model.save(tmp_path / "model.keras")
    keras.saving.load_model(tmp_path / "model.keras")


def test_a_layer_called_on_a_constant_is_part_of_the_model() -> None:
    class Positions(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(2, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + self.fc(torch.arange(10.0).view(5, 2))

    built = converted(Positions(), torch.randn(2, 5, 4))
    assert len(built.model.trainable_variables) == 2


class Translator(nn.Module):
    """An encoder and a decoder whose causal mask is not announced with `tgt_is_causal`."""

    def __init__(self) -> None:
        super().__init__()
        self.transformer = nn.Transformer(8, 2, 1, 1, 16, batch_first=True)
        self.vocabulary = nn.Linear(8, 5)

    def forward(self, source: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        mask = nn.Transformer.generate_square_subsequent_mask(target.shape[1])
        return self.vocabulary(self.transformer(source, target, tgt_mask=mask))


@pytest.mark.slow
def test_a_transformer_with_a_causal_mask() -> None:
    torch.manual_seed(0)
    converted(Translator(), (torch.randn(2, 10, 8), torch.randn(2, 7, 8)))


class Grouped(nn.Module):
    """Convolve every sample with a different kernel: the number of groups is the batch size."""

    def forward(self, image: torch.Tensor, kernel: torch.Tensor) -> torch.Tensor:
        batch, channels, height, width = image.shape
        merged = image.reshape(1, batch * channels, height, width)
        made = functional.conv2d(merged, kernel.flatten(0, 1), groups=batch)
        return made.view(batch, -1, height, width)


def test_every_sample_is_convolved_with_a_kernel_of_its_own_without_a_permutation_of_images() -> None:
    built = converted(Grouped(), (torch.randn(2, 3, 4, 6), torch.randn(2, 5, 3, 1, 1)))
    assert "transpose" not in built.source


class Widened(nn.Module):
    """Pads images by as many pixels as there are samples."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return functional.conv2d(image, image[:1, :, :1, :1].contiguous(), padding=image.shape[0])


def test_a_computation_that_needs_the_size_of_the_batch_is_refused_by_name() -> None:
    with pytest.raises(
        UnsupportedLayerError,
        match="needs a number depends on the dynamic size batch; the batch size is always dynamic",
    ):
        converted(Widened(), torch.randn(2, 3, 4, 4))


class Stored(nn.Module):
    """Joins to the input what is equal for all samples: rows of a table at constant places, plus a parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.shift = nn.Embedding(9, 4), nn.Parameter(torch.randn(4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        places = torch.arange(5).expand(x.shape[0], 5)
        shifted = self.table(places + 1) + self.shift
        return torch.cat([x + self.table(places), shifted, shifted.flatten(1).view(-1, 5, 4)], 1)


def test_what_is_equal_for_all_samples_is_joined_to_samples() -> None:
    built = converted(Stored(), torch.randn(2, 3, 4)[:, :1].expand(2, 5, 4).contiguous())
    assert tuple(built.model(torch.ones(3, 5, 4).numpy()).shape) == (3, 15, 4)


class Tokens(nn.Module):
    """Puts a parameter before the rows of each frame of each sample."""

    def __init__(self) -> None:
        super().__init__()
        self.token = nn.Parameter(torch.randn(1, 1, 4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        rows = x.flatten(0, 1)
        return torch.cat([self.token.expand(rows.shape[0], -1, -1), rows], 1)


def test_a_parameter_is_repeated_for_a_multiple_of_the_batch() -> None:
    converted(Tokens(), torch.randn(2, 3, 5, 4))


class Padded(nn.Module):
    def forward(self, pad: torch.Tensor, reshape: torch.Tensor) -> torch.Tensor:
        return functional.pad(pad, (1, 0)) + functional.pad(reshape, (0, 1)).reshape(-1, 5)


def test_an_input_may_have_the_name_of_an_operation() -> None:
    keras.backend.clear_session()  # the names that Keras gives to operations start anew
    built = converted(Padded(), (torch.randn(2, 4), torch.randn(2, 4)))
    assert [one.name for one in built.model.inputs] == ["pad_input", "reshape_input"]


class Determinant(nn.Module):
    """Adds a scalar to a constant vector of zeros, as a normalizing flow sums logarithms of determinants."""

    def __init__(self) -> None:
        super().__init__()
        self.scales = nn.Parameter(torch.randn(4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.zeros(x.shape[0]) + self.scales.sum() + (x * self.scales.exp()).sum(1)


def test_a_scalar_beside_a_constant_has_the_precision_of_the_model() -> None:
    conversion = k3c.convert(Determinant(), inputs=torch.randn(5, 4))
    assert conversion.report is not None
    conversion.report.raise_if_failed()


class Standardized(nn.Conv2d):
    """A convolution that standardizes its kernel by a batch normalization of it, as BiT's does."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        flat = self.weight.reshape(1, self.out_channels, -1)
        kernel = functional.batch_norm(flat, None, None, training=True, momentum=0.0, eps=1e-6)
        return functional.conv2d(x, kernel.reshape_as(self.weight), self.bias, padding=1)


def test_a_batch_normalization_of_a_kernel_is_written_out() -> None:
    module = nn.Sequential(Standardized(3, 4, 3), nn.ReLU())
    conversion = k3c.convert(module, inputs=torch.randn(2, 3, 6, 7))
    assert conversion.report is not None
    conversion.report.raise_if_failed()
