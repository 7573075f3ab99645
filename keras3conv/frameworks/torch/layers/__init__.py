"""Define modules for Keras layers that have no counterpart in torch.nn.

The source code of a class needs only torch, imported as `import torch` and `from torch import nn`, and functions of
`frameworks.torch.functions`: a generated module contains copies of the class and of these functions. The attribute
`kind` of a class is the name by which the rules know it and its copies.
"""

from keras3conv.frameworks.torch.layers.attention import AdditiveAttention, Attention, GroupedQueryAttention
from keras3conv.frameworks.torch.layers.convolution import UnevenConv2d
from keras3conv.frameworks.torch.layers.normalization import MaskedBatchNorm, Normalization
from keras3conv.frameworks.torch.layers.recurrent import ConvLSTM, Recurrent
from keras3conv.frameworks.torch.layers.regularization import GaussianDropout, GaussianNoise, SharedDropout

__all__ = [
    "AdditiveAttention",
    "Attention",
    "ConvLSTM",
    "GaussianDropout",
    "GaussianNoise",
    "GroupedQueryAttention",
    "MaskedBatchNorm",
    "Normalization",
    "Recurrent",
    "SharedDropout",
    "UnevenConv2d",
]
