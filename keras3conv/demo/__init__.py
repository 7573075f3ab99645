"""The command `keras3conv demo`: train a small model in Keras, move it to PyTorch, and prove that nothing changed."""
