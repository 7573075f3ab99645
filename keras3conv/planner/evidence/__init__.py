"""Evidence without a run: hints, names, shapes, data flow, order."""
