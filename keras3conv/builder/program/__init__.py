"""The program, a converted model as a list of statements (steps), with the names and axis orders of its values."""
