"""Measurements of speed and memory. `python -m benchmarks` lists them, `python -m benchmarks NAME` runs one."""
