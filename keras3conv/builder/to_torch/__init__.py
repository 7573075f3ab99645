"""Lowering of a Keras call graph to a torch program."""
