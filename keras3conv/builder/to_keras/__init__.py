"""Lower the call graph of a torch module to a functional Keras model."""
