"""Modules that cannot be converted to Keras: the message lists every unsupported operation."""

from pathlib import Path

import keras
import pytest
import torch
from torch import nn

import keras3conv as k3c
from keras3conv.errors import InputError, UnsupportedLayerError
from tests.support.to_keras import Function


class Unsupported(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Sequential(nn.Linear(4, 4), nn.RReLU())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.inner(x)
        made = torch.special.i1(x)
        return made + torch.special.i0e(x)


class Branch(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x if x.sum() > 0 else x * 2


@pytest.mark.slow
def test_every_unsupported_operation_is_reported_with_its_module_and_source_line() -> None:
    with pytest.raises(UnsupportedLayerError) as caught:
        k3c.convert(Unsupported(), inputs=torch.randn(2, 4))
    message = str(caught.value)
    for part in ("inner.1", "rrelu", "special_i1", "i0e", "made = torch.special.i1(x)", Path(__file__).name):
        assert part in message


class Singular(nn.Module):
    """A module whose rows are a batch, and the matrix of which Keras needs both sizes."""

    def __init__(self, is_last: bool) -> None:
        super().__init__()
        self.linear, self.is_last = nn.Linear(3, 3), is_last

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = torch.relu(self.linear(x))
        return torch.linalg.svdvals(y) if self.is_last else y


def test_an_operation_that_keras_refuses_is_named_with_its_operator_its_module_and_its_line() -> None:
    with pytest.raises(UnsupportedLayerError, match="1 problem in Sequential") as caught:
        k3c.convert(nn.Sequential(*(Singular(place == 4) for place in range(5))), inputs=torch.randn(2, 3))
    message = caught.value.message
    for part in (
        "  4  (torch)  operator aten.linalg_svdvals.default: keras.ops.svd of Keras",
        "does not accept this call: TypeError",
        "None is a size that changes from batch to batch",
        "return torch.linalg.svdvals(y) if self.is_last else y",
        Path(__file__).name,
    ):
        assert part in message


def test_the_statement_that_keras_refuses_is_found_among_equal_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    relu, calls = keras.ops.relu, 0

    def third_fails(x: object) -> object:
        nonlocal calls
        calls += 1
        if calls % 3 == 0:
            raise IndexError("no such axis")
        return relu(x)

    monkeypatch.setattr(keras.ops, "relu", third_fails)
    monkeypatch.setattr(keras.layers, "ReLU", lambda **_: third_fails)
    with pytest.raises(UnsupportedLayerError, match=r"\n  2 .*aten.relu.default: .*IndexError: no such axis"):
        k3c.convert(nn.Sequential(*(Singular(is_last=False) for _ in range(5))), inputs=torch.randn(2, 3))


def test_control_flow_that_depends_on_values_is_refused_with_its_line() -> None:
    for module in (Branch(), nn.Sequential(Branch())):
        with pytest.raises(UnsupportedLayerError, match=r"data-dependent(.|\n)*test_refused.py") as caught:
            k3c.convert(module, inputs=torch.randn(2, 4))
        assert "torch.where(condition, a, b)" in str(caught.value)
        assert ("Fix:" in str(caught.value)) is isinstance(module, nn.Sequential)


def test_torchscript_is_refused() -> None:
    with pytest.warns(DeprecationWarning, match="torch.jit"):
        scripted = torch.jit.trace(nn.Linear(4, 4), torch.randn(2, 4))
    with pytest.raises(UnsupportedLayerError, match="TorchScript"):
        k3c.convert(scripted, inputs=torch.randn(2, 4))


def test_a_file_of_weights_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "net.pt"
    torch.save(nn.Linear(4, 4).state_dict(), path)
    with pytest.raises(InputError, match="contains weights, but no architecture"):
        k3c.convert(path, inputs=torch.randn(2, 4))
    with pytest.raises(InputError):
        k3c.convert(nn.Linear(4, 4).state_dict(), inputs=torch.randn(2, 4))


def test_missing_inputs_and_inputs_that_do_not_fit_are_refused() -> None:
    with pytest.raises(InputError, match="inputs="):
        k3c.convert(nn.Linear(4, 4))
    with pytest.raises(InputError, match="cannot be called with these inputs"):
        k3c.convert(nn.Linear(4, 4), inputs=(torch.randn(2, 4), torch.randn(2, 4)))


@pytest.mark.slow
def test_using_the_batch_size_as_a_number_is_refused() -> None:
    with pytest.raises(UnsupportedLayerError, match="a dynamic size is used as a number"):
        k3c.convert(Function(lambda x: x / x.shape[0]), inputs=torch.randn(2, 4))
    with pytest.raises(UnsupportedLayerError, match="mean runs along the batch axis"):
        k3c.convert(Function(lambda x: x - x.mean(0)), inputs=torch.randn(2, 4))


class Counter(nn.Module):
    number: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("number", torch.zeros(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.number += 1
        return torch.special.i1(x * self.number)


def test_a_state_between_calls_is_refused_beside_every_other_obstacle() -> None:
    with pytest.raises(UnsupportedLayerError, match=r"number(.|\n)*is written in evaluation mode(.|\n)*special_i1"):
        k3c.convert(Counter(), inputs=torch.randn(2, 4))


def test_a_mask_that_chooses_rows_is_refused() -> None:
    with pytest.raises(
        UnsupportedLayerError, match=("a boolean mask chooses elements, but their number depends on the data")
    ):
        k3c.convert(Function(lambda x: x[x[:, 0] > 0] * 2), inputs=torch.randn(3, 4))


def test_complex_outputs_are_refused() -> None:
    with pytest.raises(UnsupportedLayerError, match="needs a tensor of real numbers, found complex numbers"):
        k3c.convert(Function(torch.fft.fft), inputs=torch.randn(2, 4))


def test_an_unpooling_that_torch_computes_with_another_layout_is_refused() -> None:
    image = torch.randn(2, 3, 6, 7)

    def unpool(x: torch.Tensor, stride: int, output_size: tuple[int, int] | None = None) -> torch.Tensor:
        pooled, indices = nn.functional.max_pool2d(x, 2, stride, return_indices=True)
        made: torch.Tensor = nn.MaxUnpool2d(2, stride)(pooled, indices, output_size=output_size)
        return made

    with pytest.raises(UnsupportedLayerError, match=r"is supported only for the size \(6, 7\) of the pooled image"):
        k3c.convert(Function(lambda x: unpool(x, 2, (7, 6))), inputs=image)
    with pytest.raises(UnsupportedLayerError, match="images of fixed size and windows that do not overlap"):
        k3c.convert(Function(lambda x: unpool(x, 1, (6, 7))), inputs=image)
    with pytest.raises(UnsupportedLayerError, match="which only an unpooling can take"):
        k3c.convert(Function(lambda x: nn.functional.max_pool2d(x, 2, return_indices=True)[1] + 1), inputs=image)
