"""The probe: run both models with the same weights, and pair layers by their outputs."""
