"""Passes over a program: folding, tidying, blocks, towers."""
