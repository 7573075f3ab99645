"""Contain the code that imports torch: views, runs, gradients, precision."""
