"""Compute with numpy arrays: differences, fingerprints, probe values and fast copies."""
