"""Parse the architectures and weights in files that Keras 2 saved, without a framework."""
