"""Define models independently of the frameworks: tensors, layers, views and the call graph."""
