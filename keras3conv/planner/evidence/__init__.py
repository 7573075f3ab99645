"""Find pairs without running the models for it: by hints, names, shapes, call graph and order."""
