"""The public functions step by step: align, transfer, validate, convert."""
