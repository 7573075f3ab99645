"""Lower the call graph of a Keras model to a torch program."""
