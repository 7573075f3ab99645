"""The plan: pairs of corresponding torch and Keras tensors of two models, and the transforms between them."""
