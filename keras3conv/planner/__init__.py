"""The planner: find pairs of layers by hints, names, structure, call order and the probe."""
