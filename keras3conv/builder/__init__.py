"""Convert architectures: a call graph becomes a program (a list of statements), and that becomes source code."""
