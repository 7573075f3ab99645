"""Load models that Keras 2 saved as equivalent live Keras 3 models."""
