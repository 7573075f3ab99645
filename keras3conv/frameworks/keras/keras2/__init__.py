"""Read the models that Keras 2 saved as live Keras 3 models that compute the same."""
