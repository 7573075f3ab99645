"""Define modules for Keras layers that have no counterpart in torch.nn.

The source of each class needs only `import torch` and `from torch import nn`, so that a generated model can contain it.
The rules identify the class by its `kind`, also in a generated model.
"""

from keras3conv.frameworks.torch.layers.attention import AdditiveAttention, Attention, GroupedQueryAttention
from keras3conv.frameworks.torch.layers.convolution import UnevenConv2d
from keras3conv.frameworks.torch.layers.normalization import Normalization
from keras3conv.frameworks.torch.layers.recurrent import ConvLSTM, Recurrent
from keras3conv.frameworks.torch.layers.regularization import GaussianDropout, GaussianNoise, SharedDropout

__all__ = [
    "AdditiveAttention",
    "Attention",
    "ConvLSTM",
    "GaussianDropout",
    "GaussianNoise",
    "GroupedQueryAttention",
    "Normalization",
    "Recurrent",
    "SharedDropout",
    "UnevenConv2d",
]
