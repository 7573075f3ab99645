"""Rewrite a program (a list of statements) into a shorter or faster one; each pass is one such function.

The passes merge statements, such as a layer call and its activation, and move repeated statements into a class, which
the program then calls instead.
"""
