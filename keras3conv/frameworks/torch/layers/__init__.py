"""Modules that torch.nn does not have: what Keras computes in one layer, and torch in none.

Each class stands alone: torch, as `import torch` and `from torch import nn`, is all that its text needs, so that a
model that was written out can carry it. Its `kind` is the name by which the rules know it, there too.
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
