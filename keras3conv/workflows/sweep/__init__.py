"""Implement `keras3conv.sweep`, which runs tasks on many models (align, transfer, convert, validate) in processes."""
