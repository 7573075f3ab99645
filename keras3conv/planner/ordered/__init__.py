"""Pair two lists of layers by position; tables of positions and offsets reorder the Keras list."""
