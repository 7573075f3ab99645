"""The passes, functions that rewrite a program (a list of statements) into a shorter or faster one.

They merge statements, such as a layer call and its activation, and move statements that repeat into a class of their
own, which the program then calls in each place.
"""
