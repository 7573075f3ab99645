"""Handlers that translate Keras operations into torch, one file per family."""
