"""Trace the call graph of a Keras model: layers, operations, symbolic shapes, variables."""
