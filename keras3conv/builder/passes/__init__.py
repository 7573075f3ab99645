"""The passes, functions that rewrite a program (a list of statements) into a shorter or faster one.

They merge statements, such as a layer call and its activation, and make classes of statements that repeat.
"""
