"""Provide functions used by many rules: configurations, padding, einsum equations, shapes of the Keras layer."""
