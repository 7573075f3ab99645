"""Contain the code that is common to torch and Keras: inputs, recordings, data flow, memory layout."""
