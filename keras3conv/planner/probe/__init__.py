"""The probe: run both models with the same random weights, and pair torch and Keras layers whose outputs agree."""
