"""A call with which torch 2.13 crashes the process is avoided."""

import numpy as np
import torch
from torch import nn

from keras3conv.frameworks.torch import gradients


def test_a_group_normalisation_of_an_image_in_channels_last_has_gradients() -> None:
    module = nn.GroupNorm(4, 8)
    image = np.random.default_rng(0).standard_normal((2, 6, 6, 8)).transpose(0, 3, 1, 2)
    tensors = {path: tensor.detach().double().numpy() for path, tensor in module.named_parameters()}
    found = gradients.backward(module, torch.from_numpy(image), tensors, {"": np.ones((2, 8, 6, 6))}, of=["weight"])
    values = torch.from_numpy(np.ascontiguousarray(image))
    expected = torch.nn.functional.group_norm(values, 4).sum((0, 2, 3))
    np.testing.assert_allclose(found.gradients["weight"], expected, rtol=0, atol=1e-11)
