"""Handlers, functions that convert calls of Keras operations to torch, in one file per family of operations."""
