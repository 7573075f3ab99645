"""Name the cause of a difference, with the line to paste."""
