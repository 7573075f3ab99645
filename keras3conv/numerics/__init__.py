"""Compute with numpy arrays: differences, fingerprints that identify equal arrays, random weights, and fast copies."""
