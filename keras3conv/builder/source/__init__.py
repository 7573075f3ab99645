"""Write a program as Python source code: a torch module or a function that builds a Keras model."""
