"""Conversion of architectures: a graph becomes a program, passes simplify it, a writer makes source code of it."""
