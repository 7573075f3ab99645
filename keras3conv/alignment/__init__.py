"""The plan: pairs of corresponding tensors of two models, and the transforms between them."""
