"""Implement `keras3conv.sweep`: align, transfer, convert and validate many models, each in a separate process."""
