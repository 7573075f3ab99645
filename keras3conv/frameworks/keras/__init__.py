"""Contain the code that imports Keras: views, runs, traces, gradients, files."""
