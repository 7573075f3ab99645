"""Contain all code that imports torch or Keras: view a model, run it and record its layer calls, write its weights."""
