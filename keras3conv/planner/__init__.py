"""Find the pairs of corresponding torch and Keras layers: by hints, shapes, call graph, names and a probe run."""
