"""Find the first layer that differs, the cause of the difference, and a line of code that fixes it."""
