"""Rules for activations."""
