"""Rules that pair torch normalization layers with Keras normalization layers."""
