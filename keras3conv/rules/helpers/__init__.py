"""Functions that rules share: configurations, padding, einsum, counterpart shapes."""
