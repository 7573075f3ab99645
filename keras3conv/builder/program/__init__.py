"""Define the program (a converted model as a list of statements), with the names and axis orders of its values."""
