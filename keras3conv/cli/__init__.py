"""Implement the command line: commands, options, output and exit status."""
