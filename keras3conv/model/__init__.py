"""The neutral model: tensors, layers, views and the call graph."""
