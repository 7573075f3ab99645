"""The passes, functions that rewrite a program (a list of statements) into a shorter or faster one.

They merge activations and other statements, and make a class of each part that repeats or that has shared weights.
"""
