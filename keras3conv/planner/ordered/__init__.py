"""Pair torch and Keras layers by position in two lists, after tables of the user have reordered the Keras list."""
