"""`keras3conv demo`: a small model is trained in Keras, converted to PyTorch, and nothing has changed."""
