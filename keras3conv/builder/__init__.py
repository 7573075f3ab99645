"""Convert architectures: lower a call graph to a program, simplify it by passes, write it as source code."""
