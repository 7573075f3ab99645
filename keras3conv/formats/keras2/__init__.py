"""Architectures in files of Keras 2."""
