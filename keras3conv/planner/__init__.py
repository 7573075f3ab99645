"""Find the pairs of corresponding torch and Keras layers: by hints, shapes, call graph, names and a probe.

The probe is a run of both models with the same random weights.
"""
