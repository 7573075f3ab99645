"""The rule library: one file per layer family. Importing the package registers every rule."""

from keras3conv.rules import activation, convolution, dense, normalization, pooling, regularization, shape

__all__ = ["activation", "convolution", "dense", "normalization", "pooling", "regularization", "shape"]
