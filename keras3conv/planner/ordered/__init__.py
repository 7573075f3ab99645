"""Pair two lists of layers by position; before that, tables from layer name to position reorder the Keras list."""
