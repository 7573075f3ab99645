"""Contain the code for both frameworks: inputs, recordings, data flow, memory layout."""
