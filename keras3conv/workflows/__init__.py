"""Implement the public functions: align, transfer, validate, convert, verify, sweep."""
