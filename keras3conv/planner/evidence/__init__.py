"""Find pairs without a probe run: by hints, names, shapes, call graph and order."""
