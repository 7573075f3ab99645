"""Torch checkpoints: reading without running pickled code, and writing."""
