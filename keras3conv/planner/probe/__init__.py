"""The probe: run both models with the same random weights, and pair layers whose outputs agree."""
