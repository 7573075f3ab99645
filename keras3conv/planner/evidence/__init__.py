"""Find pairs of layers without comparing outputs: by hints, names, shapes, call graph and order."""
