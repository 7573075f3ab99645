"""Run both models for the proofs, and pair the outputs of their layers."""
