"""Comparison of arrays, probe values, fingerprints and memory copies (numpy only)."""
