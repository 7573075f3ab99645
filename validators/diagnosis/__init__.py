"""Find the first layer that differs and the cause, with the line to paste."""
