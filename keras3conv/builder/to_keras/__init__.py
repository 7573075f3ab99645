"""Lowering of a captured torch module to a functional Keras model."""
