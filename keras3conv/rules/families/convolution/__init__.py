"""Rules for convolutions."""
