"""Write a program (a converted model as data) as Python code: a torch module, or a function for a Keras model."""
