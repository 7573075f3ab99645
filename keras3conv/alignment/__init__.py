"""The plan: pairs of torch and Keras layers of two models, and the transforms between the tensors of each pair."""
