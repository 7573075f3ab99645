"""Convert the call graph of a Keras model to a program, the list of statements of a torch module."""
