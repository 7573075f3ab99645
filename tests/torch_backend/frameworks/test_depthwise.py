import numpy as np
import pytest
import torch
from torch import nn

from keras3conv.frameworks.torch import module as torch_side
from keras3conv.frameworks.torch.float64 import Float64Kernels

CONVOLUTIONS = [
    pytest.param(nn.Conv1d(3, 3, 3, groups=3, padding=1), (2, 3, 11), id="one axis"),
    pytest.param(nn.Conv2d(3, 6, 3, stride=2, groups=3), (2, 3, 10, 11), id="two kernels a channel, stride"),
    pytest.param(nn.Conv2d(3, 3, (1, 5), padding="same", dilation=2, groups=3, bias=False), (2, 3, 9, 10), id="same"),
    pytest.param(nn.Conv2d(3, 3, 4, padding=(2, 0), stride=(1, 3), groups=3), (2, 3, 9, 10), id="sizes by axis"),
    pytest.param(nn.Conv3d(2, 2, 2, padding="valid", groups=2), (1, 2, 5, 6, 7), id="three axes"),
]


@pytest.mark.parametrize(("layer", "shape"), CONVOLUTIONS)
def test_the_shifted_sum_and_its_gradients_equal_the_convolution(layer: nn.Module, shape: tuple[int, ...]) -> None:
    layer = layer.double()
    values = torch.rand(shape, dtype=torch.float64, requires_grad=True)
    wanted = (values, *layer.parameters())
    expected = layer(values)
    with Float64Kernels():
        actual = layer(values)
    assert "ShiftedSum" in str(actual.grad_fn) or "ShiftedSum" in str(actual.grad_fn.next_functions)
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-13)
    weights = torch.rand_like(expected)
    gradients = (torch.autograd.grad(output, wanted, weights) for output in (actual, expected))
    for found, right in zip(*gradients, strict=True):
        torch.testing.assert_close(found, right, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("channels", "groups", "dtype"), [(4, 2, torch.float64), (4, 4, torch.float32)])
def test_convolutions_that_are_not_depthwise_are_left_to_torch(channels: int, groups: int, dtype: torch.dtype) -> None:
    layer = nn.Conv2d(channels, channels, 3, groups=groups).to(dtype)
    with Float64Kernels():
        output = layer(torch.rand(1, channels, 5, 5, dtype=dtype))
    assert "ShiftedSum" not in f"{output.grad_fn}{output.grad_fn.next_functions}"


def test_a_float64_run_records_a_depthwise_convolution_as_one_layer_call() -> None:
    model = nn.Sequential(nn.Conv2d(3, 3, 3, groups=3), nn.ReLU())
    image = np.random.default_rng(0).standard_normal((1, 3, 6, 6)).astype(np.float32)
    recording = torch_side.run(model, image, record=lambda path: True, float64=True)
    expected = model.double()(torch.from_numpy(image).double()).detach().numpy()
    assert [len(recording.of(path)) for path in ("0", "1")] == [1, 1]
    np.testing.assert_allclose(recording.of("1")[0].outputs[0], expected, rtol=0, atol=1e-14)
