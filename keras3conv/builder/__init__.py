"""Architecture conversion: one file per direction, and the writers of source code."""
