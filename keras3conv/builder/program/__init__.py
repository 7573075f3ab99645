"""The program: steps, names, layouts and variables of a converted model."""
