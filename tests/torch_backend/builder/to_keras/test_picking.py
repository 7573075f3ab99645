"""`torch.take_along_dim`: it has torch's values, and the batch size stays dynamic."""

import numpy as np
import pytest
import torch
from torch import nn

import keras3conv as k3c
from keras3conv.frameworks.torch.exportable import TakenAlongAnyBatch
from tests.support.to_keras import converted
from tests.torch_backend.builder.to_keras.test_text_functions import GridSample

SHAPES = (((2, 3, 4), (2, 5, 4)), ((2, 3, 4), (1, 5, 4)), ((1, 3, 4), (2, 5, 1)), ((2, 3, 1), (2, 5, 4)))


class Taken(nn.Module):
    """Take elements at computed places, by the function or by the method of a tensor."""

    def __init__(self, *, by_method: bool) -> None:
        super().__init__()
        self.by_method = by_method

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        places = x[:, :2, :1].argsort(1)
        return x.take_along_dim(places, dim=1) if self.by_method else torch.take_along_dim(x, places, 1)


@pytest.mark.parametrize(("shape", "places"), SHAPES)
def test_the_operator_of_the_export_has_the_values_of_torch(shape: tuple[int, ...], places: tuple[int, ...]) -> None:
    x, indices = torch.randn(*shape), torch.randint(0, 3, places)
    with TakenAlongAnyBatch():
        found = torch.take_along_dim(x, indices, dim=-2)
    assert torch.equal(found, torch.take_along_dim(x, indices, dim=-2))


def test_without_an_axis_the_function_is_called_itself() -> None:
    x = torch.randn(3, 4)
    with TakenAlongAnyBatch():
        assert torch.equal(torch.take_along_dim(x, torch.tensor([5, 7])), x.flatten()[[5, 7]])


@pytest.mark.parametrize("by_method", [True, False])
def test_the_batch_size_is_dynamic(by_method: bool) -> None:
    built = converted(Taken(by_method=by_method), torch.randn(2, 3, 4))
    x = torch.randn(5, 3, 4)
    assert np.array_equal(built.model(x.numpy()).detach().numpy(), Taken(by_method=by_method)(x).numpy())


def test_sampled_images_have_any_batch_size_after_a_round_trip() -> None:
    module, x = GridSample().eval(), torch.randn(2, 3, 6, 5)
    back = k3c.convert(k3c.convert(module, inputs=x, validate=False).model, validate=False)
    again = k3c.convert(back.model, inputs=back.inputs, validate=False).model
    assert again.inputs[0].shape[0] is None
    images = torch.randn(3, 3, 6, 5)
    found = again(images.permute(0, 2, 3, 1).numpy()).detach()
    torch.testing.assert_close(found, module(images).detach(), rtol=1e-5, atol=1e-6)
