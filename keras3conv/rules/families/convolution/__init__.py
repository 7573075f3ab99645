"""Rules that pair torch convolutions with Keras convolutions."""
