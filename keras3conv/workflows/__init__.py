"""Implement the public functions: align, align_ordered, transfer, validate, convert, verify, sweep."""
