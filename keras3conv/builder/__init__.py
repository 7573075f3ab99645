"""Convert a model to the other framework: its call graph becomes a program (a list of statements), then source code."""
