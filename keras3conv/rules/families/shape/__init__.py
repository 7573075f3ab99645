"""Rules for reshaping, padding, merging and regularization."""
