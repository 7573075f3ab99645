"""Convert the call graph of a torch module to a program, the list of statements of a functional Keras model."""
