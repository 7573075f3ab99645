"""Numerics in numpy: comparison of arrays, probe values, fingerprints and memory copies."""
