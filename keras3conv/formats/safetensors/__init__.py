"""Safetensors files and their sharded index."""
